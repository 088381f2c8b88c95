"""
The relay's loop: one epoll set, dispatch by file descriptor, deadlines.

It runs on a thread of its own, as a bare loop, beside the control plane's event loop: an epoll set inside another loop
costs 15 to 25 % more per request under load, and a thread that only waits costs nothing. The two meet in the few methods
marked "any thread", which leave a call in `_calls` and wake the loop.

Deadlines are lazy. A connection moves its deadline with every byte, which is one attribute write; the heap holds one
entry per connection, and when that comes up the connection says whether it is really time.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from sslterm.relay.connection import Connection
from sslterm.relay.listener import Listener
from sslterm.relay.policy import Policy

BUFFER: Final = 131072
"""Bytes read at a time: at 64 to 128 KiB the cost per byte is flat; two such buffers serve all connections."""
_READ: Final = select.EPOLLIN
_LOG_DELAY: Final = 0.05


class Relay:
    """Accepts connections from the listeners that it is given and relays them, until it is drained or stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._listeners: list[Listener] = []
        self._running = True
        self.draining = False
        """No connection begins anything new."""
        self._logged = 0.0
        self.connections: set[Connection] = set()
        self.ciphertext = memoryview(bytearray(BUFFER))
        self.plaintext = memoryview(bytearray(BUFFER))
        self.now = monotonic()
        """The time of this turn."""
        self.cut = 0
        """Connections that were cut at the end of a drain."""
        self.unlogged = False
        """The access log has lines to flush."""
        self.register(self._wake, self._on_wake)

    # Any thread.

    def add(self, listener: socket.socket, policy: Policy) -> None:
        """Accept connections from `listener`, which the relay closes in the end. Any thread."""
        self._call(lambda: self._listeners.append(Listener(self, listener, policy)))

    def drain(self, timeout: float) -> None:
        """Accept no more, finish what is under way, cut what is left after `timeout` seconds. Any thread."""
        self._call(lambda: self._drain(timeout))

    def stop(self) -> None:
        """Cut everything, now. Any thread."""
        self._call(self._stop)

    def _call(self, what: Callable[[], None]) -> None:
        self._calls.append(what)
        os.eventfd_write(self._wake, 1)

    # The relay's thread.

    def run(self) -> None:
        """Relay until drained or stopped. Blocks: for a thread of its own."""
        try:
            while self._running:
                self._turn()
        finally:
            for listener in self._listeners:
                listener.close()
            for connection in list(self.connections):
                connection.cut("stopped")
            self._flush_logs()
            self._epoll.close()
            os.close(self._wake)

    def _turn(self) -> None:
        events = self._epoll.poll(self._timeout(), 256)
        self.now = now = monotonic()
        handlers = self._handlers
        for fd, mask in events:
            # An earlier event of this turn may have closed this one; a number that was taken again gets a false
            # alarm, which does no harm to sockets that do not block.
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask)
        timers = self._timers
        while timers and timers[0][0] <= now:
            when, _, what = heapq.heappop(timers)
            what(when)
        if self.unlogged and now - self._logged >= _LOG_DELAY:
            self._flush_logs()

    def _timeout(self) -> float:
        until = self._timers[0][0] - monotonic() if self._timers else None
        if self.unlogged:
            until = _LOG_DELAY if until is None else min(until, _LOG_DELAY)
        return -1 if until is None else max(until, 0.0)

    def _flush_logs(self) -> None:
        self._logged = self.now
        self.unlogged = False
        for listener in self._listeners:
            if listener.policy.access_log is not None:
                listener.policy.access_log.flush()

    def _on_wake(self, _mask: int) -> None:
        os.eventfd_read(self._wake)
        while self._calls:
            self._calls.popleft()()

    def register(self, fd: int, handler: Callable[[int], None], mask: int = _READ) -> None:
        """Call `handler(mask)` whenever `fd` is ready."""
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        """Wait for something else on `fd`."""
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Wait for `fd` no more."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def call_at(self, when: float, what: Callable[[float], None]) -> None:
        """Call `what(when)` at the time `when` of the monotonic clock."""
        heapq.heappush(self._timers, (when, next(self._order), what))

    def closed(self, connection: Connection) -> None:
        """`connection` is no more."""
        self.connections.discard(connection)
        if self.draining and not self.connections:
            self._running = False

    def _drain(self, timeout: float) -> None:
        if self.draining:
            return
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            self.call_at(self.now + timeout, lambda _when: self._stop())
        else:
            self._running = False

    def _stop(self) -> None:
        self._running = False
        self.cut = sum(connection.under_way for connection in self.connections)
