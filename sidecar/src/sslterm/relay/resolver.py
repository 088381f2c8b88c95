"""
The addresses of a host, looked up anew for whoever calls it: tasks of a service come and go.

`getaddrinfo` blocks, for half a minute where no name server answers, so it runs on a thread of its own, which ends with
the answer: at most one for each host at a time. Who asks meanwhile gets the same answer, so a name server that is slow
has not more to do the more callers there are. The thread is a daemon: the end of the process does not wait for it.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import TYPE_CHECKING

from sslterm.relay.policy import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.relay.base import BaseConnection
    from sslterm.relay.loop import Relay
    from sslterm.settings import Address

    Told = Callable[[tuple[Backend, ...], str], None]


class Resolver:
    """One host's. On the relay's thread, but for `_look`."""

    __slots__ = ("_address", "_asking", "_known", "_relay", "_waiting")

    def __init__(self, relay: Relay, address: Address) -> None:
        self._relay = relay
        self._address = address
        self._known = _literal(address)
        self._asking = False
        self._waiting: dict[BaseConnection, Told] = {}

    def ask(self, who: BaseConnection, told: Told) -> None:
        """Call `told` with the addresses, or with none and the reason; at once for a host that is an address."""
        if self._known:
            told(self._known, "")
            return
        self._waiting[who] = told
        if not self._asking:
            self._asking = True
            try:
                threading.Thread(target=self._look, name="resolver", daemon=True).start()
            except RuntimeError:  # the container's limit, mostly
                self._answer((), "no thread is left to look it up")

    def forget(self, who: BaseConnection) -> None:
        """Whoever asked wants to know no more."""
        self._waiting.pop(who, None)

    def _look(self) -> None:
        host, port = self._address.host, self._address.port
        found: tuple[Backend, ...] = ()
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = tuple(dict.fromkeys(Backend(family, tuple(address)) for family, _, _, _, address in answers))
            why = "" if found else "does not resolve"
        except Exception as error:  # noqa: BLE001 - whatever it is: those who wait are to hear it
            why = f"does not resolve ({getattr(error, 'strerror', None) or error})"
        self._relay.call(lambda: self._answer(found, why))

    def _answer(self, found: tuple[Backend, ...], why: str) -> None:
        self._asking = False
        waiting, self._waiting = self._waiting, {}
        for told in waiting.values():
            told(found, why)


def _literal(address: Address) -> tuple[Backend, ...]:
    """The one address, where it is no name."""
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        return ()
    return (Backend(socket.AF_INET if version == 4 else socket.AF_INET6, (address.host, address.port)),)
