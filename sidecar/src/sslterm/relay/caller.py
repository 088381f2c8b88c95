"""
The socket of a program that calls another: what waits to be written, ends both ways, and when it is watched.

As `Upstream` is for the other side. What the program says is read by the connection, which also decides when. Nothing
raises: what broke it is in `fault`, for the connection to see after the event.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sslterm.relay.upstream import RESET

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.relay.loop import Relay

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_PARKED: Final = -1


class Caller:
    """From accept to close."""

    __slots__ = ("_fd", "_mask", "_on_ready", "_relay", "_socket", "ended", "fault", "name", "pending", "told")

    def __init__(
        self, relay: Relay, accepted: socket.socket, peer: tuple[Any, ...], on_ready: Callable[[int], None]
    ) -> None:
        self._relay = relay
        self._socket = accepted
        self._fd = accepted.fileno()
        self._on_ready: Callable[[int], None] | None = on_ready  # until it is closed: no cycle outlives it
        self._mask = 0
        self.name = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        self.pending: bytes = b""
        """Waits to be written, because it could not be."""
        self.ended = False
        """The program said that it will send no more."""
        self.told = False
        """It was told that nothing more comes."""
        self.fault = ""
        accepted.setblocking(False)
        relay.register(self._fd, on_ready, 0)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def receive(self, buffer: bytearray) -> int:
        """Read into `buffer`; 0 if there is nothing: yet, or any more (`ended`)."""
        try:
            count = self._socket.recv_into(buffer)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._broke(error)
            return 0
        self.ended = not count
        return count

    def send(self, data: bytes | memoryview) -> None:
        """Write now what can be written now; the rest is `pending`."""
        if self.pending:
            self.pending += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._broke(error)
            return
        if sent < len(data):
            self.pending = bytes(data[sent:])

    def flush(self) -> bool:
        """Write what is `pending`; whether some of it went out."""
        data, self.pending = self.pending, b""
        if data:
            self.send(data)
        return len(self.pending) < len(data)

    def end(self) -> None:
        """Say once that nothing more comes."""
        if not self.told:
            self.told = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._broke(error)

    def watch(self, *, read: bool) -> None:
        """Wait for what can be used: for what the program says only if `read`."""
        mask = (_IN if read and not self.ended else 0) | (_OUT if self.pending else 0)
        if mask == self._mask or self._on_ready is None:
            return
        if self._mask != _PARKED:
            self._relay.modify(self._fd, mask)
        elif mask:
            self._relay.register(self._fd, self._on_ready, mask)
        else:
            return
        self._mask = mask

    def hang_up(self, mask: int) -> None:
        """It is reset, or closed on both sides while nobody read: epoll says the latter until it is not asked."""
        if mask & select.EPOLLERR:
            self.fault = "the caller reset the connection"
        elif self._mask != _PARKED:
            self._relay.unregister(self._fd)
            self._mask = _PARKED

    def close(self, *, reset: bool) -> None:
        """`reset`: so that the program sees that it was cut."""
        if self._fd < 0:
            return
        if self._mask != _PARKED:
            self._relay.unregister(self._fd)
        self._fd = -1
        self._on_ready = None
        if reset:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._relay.bury(self._socket)

    def _broke(self, error: OSError) -> None:
        self.fault = f"the caller's connection broke: {os.strerror(error.errno or 0)}"
