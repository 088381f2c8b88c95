"""Looks every few seconds whether clients can go round TLS, and tells of every change."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from sslterm import netns
from sslterm.bypass import around, audited, fault_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_EVERY: Final = 10.0
"""Seconds between two looks, which take 0.1 ms each: a target seldom opens another port."""


class Audit:
    """What the last look found."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._soon = anyio.Event()
        self.found: tuple[str, ...] = ()
        """Where the backend also listens, as `host:port`."""

    @property
    def fault(self) -> str:
        """The same, in words; empty for nothing."""
        return fault_of(self.found)

    def soon(self) -> None:
        """Something may have changed."""
        self._soon.set()

    async def watch(self, backends: Iterable[tuple[str, int]], changed: Callable[[], object]) -> None:
        """Look at these addresses of the backend until cancelled; `changed` is called when the answer is another."""
        ports = audited(backends, netns.read_addresses())
        while ports:
            self._soon = anyio.Event()
            before = self.found
            with suppress(OSError):  # no descriptor left, mostly: what cannot be seen has not changed
                self.found = around(netns.listening(ports))
            if self.found != before:
                self._tell()
                changed()
            with anyio.move_on_after(_EVERY):
                await self._soon.wait()

    def _tell(self) -> None:
        if self.found:
            self._report("WARNING", f"Bypass: {self.fault}; have the target listen on 127.0.0.1 alone")
        else:
            self._report("INFO", "Clients cannot go round TLS any more: the backend listens on loopback alone")
