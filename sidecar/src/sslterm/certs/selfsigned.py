"""
A certificate that vouches for nobody but is there at once: made at start, for the names this namespace has.

Nothing is kept: the key exists in this process's memory and, while it is made, in the child's. A new one is made when
two thirds of its life are over, and when the namespace gains an address that it does not name (a container joined to
another network).
"""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.maker import Maker, MakerError

if TYPE_CHECKING:
    from collections.abc import Callable

_DAYS: Final = 90.0
"""The longest life that Mozilla's modern profile allows; intermediate would take 366."""

_INTERVAL: Final = 5.0
_SLOWEST: Final = 300.0
"""Seconds between looks, and between tries where making fails."""

_DNS_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")


class SelfSigned:
    """The source where no files are given. `addresses` tells those of this network namespace, as text."""

    def __init__(self, maker: Maker, addresses: Callable[[], frozenset[str]], days: float = _DAYS) -> None:
        self._maker = maker
        self._addresses = addresses
        self._days = days
        self._named: frozenset[str] = frozenset()
        self._renew_at = 0.0
        self._pause = _INTERVAL

    async def obtain(self) -> Credentials:
        """A new key and certificate. Raises `Rejected` if the child process fails, or the addresses are not told."""
        try:
            named = self._addresses() | {"127.0.0.1", "::1"}
        except OSError as error:
            raise Rejected(f"self-signed: the addresses of this namespace: {error.strerror}") from None
        order = {
            "common_name": socket.gethostname()[:64] or "localhost",  # 64: ub-common-name, RFC 5280 appendix A
            "dns": host_names(socket.gethostname()),
            "addresses": sorted(named),
            "days": self._days,
        }
        self._pause = min(2 * self._pause, _SLOWEST)
        try:
            made = await anyio.to_thread.run_sync(self._maker.make, order, abandon_on_cancel=True)
        except MakerError as error:
            raise Rejected(f"self-signed: {error}") from None
        self._pause = _INTERVAL
        self._named = named
        self._renew_at = time.time() + self._days * 86400 * 2 / 3
        return Credentials((Bundle(made["chain"].encode(), made["key"].encode(), "self-signed", "self-signed"),))

    async def changed(self) -> None:
        """Return when it is time for a new one."""
        while True:
            await anyio.sleep(self._pause)
            if time.time() >= self._renew_at or self._is_new_address():
                return

    def _is_new_address(self) -> bool:
        try:
            return not self._addresses() <= self._named
        except OSError:  # no descriptor left, mostly: traffic goes on, and the next look may see more
            return False


def host_names(hostname: str) -> list[str]:
    """The DNS names to certify; a hostname that no client could ask for by DNS is left out."""
    usable = _DNS_NAME.fullmatch(hostname) and hostname != "localhost"
    return ["localhost", hostname] if usable else ["localhost"]
