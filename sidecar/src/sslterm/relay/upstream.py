"""
A connection's socket to its backend: dialling, what waits to be written, half-close, and when it is watched.

Knows nothing of flows: it is told what to send and asked what it holds. What the backend says is read by the
connection, which also decides when to wait for it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.relay.loop import Relay
    from sslterm.relay.policy import Backend

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero: closing sends RST, so that nobody takes a cut stream for a whole one."""
_PARKED: Final = -1


def _nothing(_: object) -> int:
    raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))


class Upstream:
    """At most one socket to the backend at a time, and the bytes on their way to it."""

    __slots__ = (
        "_backends", "_half_closed", "_mask", "_number", "_on_ready", "_relay", "_write",
        "connecting", "deaf", "ended", "flows", "held", "pending", "receive", "socket",
    )  # fmt: skip

    def __init__(self, relay: Relay, backends: tuple[Backend, ...]) -> None:
        self._relay = relay
        self._backends = backends
        self._number = 0
        self._mask = _PARKED
        self.deaf = False
        """It takes nothing more: what is to be sent is dropped."""
        self._half_closed = False
        self._on_ready: Callable[[int], None] | None = None  # held while there is a socket: no cycle outlives it
        self.socket: socket.socket | None = None
        self.receive: Callable[[bytearray], int] = _nothing
        """Read into a buffer: of the socket there is."""
        self._write: Callable[[bytes | memoryview], int] = _nothing
        self.flows = False
        """Connected, watched for what it says, and nothing waits to be written: the usual state."""
        self.connecting = False
        self.ended = False
        """The backend said that it will send no more."""
        self.pending: bytes = b""
        """Waits to be written, because it could not be."""
        self.held: bytes = b""
        """Waits for the end of the turn: comes before all else."""

    def dial(self, on_ready: Callable[[int], None]) -> int:
        """Begin to connect, and call `on_ready` for what happens; 0, or the errno why no address can be reached."""
        self._number = 0
        return self._try(on_ready, errno.ECONNREFUSED)

    def connected(self) -> int:
        """The attempt is over: 0 if it succeeded or another began, or the errno why no address can be reached."""
        attempt, on_ready = self.socket, self._on_ready
        assert attempt is not None  # noqa: S101 - for the type checker: it is what became ready
        assert on_ready is not None  # noqa: S101 - for the type checker: set together with the socket
        self.connecting = False
        failed = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not failed:
            self.flush()
            return 0
        waiting = self.pending
        self.drop()
        self.pending = waiting
        self._number += 1
        return self._try(on_ready, failed)

    def skip(self, failed: int) -> int:
        """Begin with the next address instead of this one; 0, or `failed` or another errno if none can be reached."""
        on_ready = self._on_ready
        assert on_ready is not None  # noqa: S101 - for the type checker: set together with the socket
        self.drop()
        self._number += 1
        return self._try(on_ready, failed)

    @property
    def left(self) -> int:
        """Addresses that were not given up, the one in use among them."""
        return len(self._backends) - self._number

    @property
    def host(self) -> str:
        """The address in use, or the last that was; empty before."""
        place = min(self._number, len(self._backends) - 1)
        return str(self._backends[place].sockaddr[0]) if place >= 0 else ""

    def _try(self, on_ready: Callable[[int], None], failed: int) -> int:
        """Connect to the address whose turn it is, or to the next that does not refuse at once."""
        while self._number < len(self._backends):
            family, sockaddr = self._backends[self._number]
            try:
                backend = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            except OSError as error:  # a kernel without this address family, or no descriptor left
                failed = error.errno or failed
                self._number += 1
                continue
            backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failed = backend.connect_ex(sockaddr)
            if failed in (0, errno.EINPROGRESS):
                self.socket = backend
                self.receive, self._write = backend.recv_into, backend.send
                self._on_ready = on_ready
                self.ended = self.deaf = self._half_closed = False
                self.connecting = failed != 0
                self._mask = _OUT if self.connecting else _IN
                self._relay.register(backend.fileno(), on_ready, self._mask)
                if not self.connecting:
                    self.flush()
                return 0
            backend.close()
            self._number += 1
        self.pending = b""
        return failed

    def send(self, data: bytes | memoryview) -> None:
        """Write now what can be written now; the rest is `pending`."""
        if self.held:
            self.release()
        if self.deaf:
            return
        if self.socket is None or self.connecting or self.pending:
            self.flows = False
            self.pending += data
            return
        try:
            sent = self._write(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It reads no more, but what it said before is still to be read: a refusal of a large body, mostly.
            self.deaf = True
            self.flows = False
            return
        if sent < len(data):
            self.flows = False
            self.pending = bytes(data[sent:])

    def release(self) -> None:
        """Write what was `held`."""
        data, self.held = self.held, b""
        if data:
            self.send(data)

    def flush(self) -> None:
        """Write what is `pending`."""
        data, self.pending = self.pending, b""
        if data:
            self.send(data)

    def close_write(self) -> None:
        """Say that nothing more comes, as soon as everything is written."""
        if self._half_closed or self.pending or self.connecting or self.socket is None:
            return
        self._half_closed = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.deaf = True  # gone already; reading will tell

    def watch(self, *, read: bool) -> None:
        """Wait for what can be used: for what the backend says only if `read`."""
        if self.socket is None or self._on_ready is None:
            return
        if self.connecting:
            mask = _OUT
        else:
            mask = _IN if read and not self.ended else 0
            if self.pending:
                mask |= _OUT
        self.flows = mask == _IN and not self.connecting
        if mask == self._mask:
            return
        if self._mask != _PARKED:
            self._relay.modify(self.socket.fileno(), mask)
        elif mask & _IN:
            self._relay.register(self.socket.fileno(), self._on_ready, mask)
        else:
            return
        self._mask = mask

    def park(self) -> None:
        """Stop watching a socket that is broken, until there is room to read what is left of it."""
        if self.socket is not None and self._mask != _PARKED:
            self._relay.unregister(self.socket.fileno())
            self._mask = _PARKED
            self.flows = False

    def give_up(self) -> None:
        """It takes nothing more, and has said all."""
        self.park()
        self.pending = self.held = b""
        self.deaf = True

    def drop(self, *, reset: bool = False) -> None:
        """Close it, and forget what was on its way; `reset`: so that the backend sees that it was cut."""
        backend = self.socket
        if backend is None:
            return
        self.park()
        self.socket = self._on_ready = None
        self.receive = self._write = _nothing
        self.flows = False
        self.connecting = False
        self.pending = self.held = b""
        if reset:
            backend.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._relay.bury(backend)
