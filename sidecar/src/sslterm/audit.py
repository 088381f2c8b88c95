"""Looks every few seconds whether clients can go round TLS, and tells of every change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from sslterm import netns
from sslterm.bypass import around, audited, blind, fault_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from sslterm.settings import Address

_EVERY: Final = 10.0
"""Seconds between two looks, which take 0.1 ms each: a target seldom opens another port."""


class Audit:
    """What the last look found."""

    def __init__(self, report: Callable[[str, str], None], own: Collection[Address] = ()) -> None:
        self._report = report
        self._own = own
        self._soon = anyio.Event()
        self.found: tuple[str, ...] = ()
        """Where the backend also listens, as `host:port`."""
        self._blind = ""
        """Why the last look failed, so that `found` is of one before; empty if it did not."""

    @property
    def fault(self) -> str:
        """The same, in words, or that it cannot be known; empty for nothing."""
        return fault_of(self.found) or self._blind

    def soon(self) -> None:
        """Something may have changed."""
        self._soon.set()

    async def watch(self, backends: Iterable[tuple[str, int]], changed: Callable[[], object]) -> None:
        """Look at these addresses of the backend until cancelled; `changed` is called when the answer is another."""
        backends = tuple(backends)
        ports: frozenset[int] | None = None
        while ports is None or ports:
            self._soon = anyio.Event()
            before = self.found, bool(self._blind)
            try:
                if ports is None:
                    ports = audited(backends, netns.read_addresses())
                self.found, self._blind = around(netns.listening(ports), self._own), ""
            except OSError as error:  # no file descriptor is left, for one: no reason to serve nobody
                self._blind = blind(error)
            if (self.found, bool(self._blind)) != before:
                self._tell(*before)
                changed()
            with anyio.move_on_after(_EVERY):
                await self._soon.wait()

    def _tell(self, found: tuple[str, ...], was_blind: bool) -> None:
        if self._blind:
            self._report("WARNING", f"{self._blind[:1].upper()}{self._blind[1:]}; trying again")
            return
        if was_blind:
            self._report("INFO", "Looking again whether clients can go round TLS")
        if self.found == found:
            return
        if self.found:
            self._report("WARNING", f"Bypass: {self.fault}; have the target listen on 127.0.0.1 alone")
        else:
            self._report("INFO", "Clients cannot go round TLS any more: the backend listens on loopback alone")
