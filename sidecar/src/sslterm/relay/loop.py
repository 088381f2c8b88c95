"""
The relay's loop: one epoll set, dispatch by file descriptor, deadlines.

It runs on a thread of its own, as a bare loop, beside the control plane's event loop: an epoll set inside another loop
costs 15 to 25 % more per request under load, and a thread that only waits costs nothing. The two meet in the few
methods marked "any thread", which leave a call in `_calls` and wake the loop.

Deadlines are lazy. A connection moves its deadline with every byte, which is one attribute write; the heap holds one
entry per connection, and when that comes up the connection says whether it is really time.

Sockets are closed at the end of a turn (`bury`). Closed at once, their numbers could be taken again within the turn,
and an event reported for the old one would be taken for the new one's: a reset, say, of a client just accepted.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from sslterm.relay import heap
from sslterm.relay.base import BaseConnection
from sslterm.relay.connection import Connection
from sslterm.relay.listener import Listener
from sslterm.relay.policy import Policy

BUFFER: Final = 65536
"""
Bytes read at a time: from 64 KiB on the cost per byte is flat. Two such buffers serve all connections, but each holds
what its slow end has not taken, and OpenSSL's buffers keep the size that they once needed.
"""
_READ: Final = select.EPOLLIN
_LOG_DELAY: Final = 0.05
_PER_TURN: Final = 64
"""Events: with 64 KiB to encrypt for each, a turn takes 3 ms, for which all others wait."""
_CROWD: Final = 256
"""Connections whose memory, 4 MB if they are idle, is worth giving back when they are gone."""
_CROWD_GOES: Final = 1.0
"""Seconds for more of them to go, so that it is done once."""


class Timer:
    """Something to be called at the time `when`, unless it is cancelled."""

    __slots__ = ("what", "when")

    def __init__(self, when: float, what: Callable[[], None]) -> None:
        self.when = when
        self.what: Callable[[], None] | None = what

    def cancel(self) -> None:
        """Forget what was to be called: until its time comes, nothing but this small object is kept."""
        self.what = None


class Relay:
    """Accepts connections from the listeners that it is given and relays them, until it is drained or stopped."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waking = threading.Lock()
        self._buried: list[socket.socket] = []
        self._listeners: list[Listener] = []
        self._running = True
        self.draining = False
        """What is under way, and one request more for those who wait, is all that connections will do."""
        self.lame = False
        """The backend is about to stop: for a while each response is the last on its connection."""
        self._lame_until = 0.0
        self._logged = 0.0
        self.connections: set[BaseConnection] = set()
        self.encrypted = bytearray(BUFFER)
        self.decrypted = bytearray(BUFFER)
        self.ciphertext = memoryview(self.encrypted)
        self.plaintext = memoryview(self.decrypted)
        """Views of the two buffers, for slices without a copy."""
        self.now = monotonic()
        """The time of this turn."""
        self.cut = 0
        """Connections that were cut at the end of a drain."""
        self.outbox: list[Connection] = []
        """Have something to send at the end of this turn."""
        self.hurry = False
        """Much was moved in this turn: what is small must not wait for more of that."""
        self.unlogged = False
        """The access log has lines to flush."""
        self._most = 0
        """Most connections at a time since memory was last given back, or since half of them had gone."""
        self.register(self._wake, self._on_wake)

    # Any thread.

    def add(self, listener: socket.socket, policy: Policy) -> None:
        """Accept connections from `listener`, which the relay closes in the end. Any thread."""
        self.call(lambda: self._add(listener, policy))

    def drain(self, timeout: float) -> None:
        """Accept who waits, finish what is under way, cut what is left after `timeout` seconds. Any thread."""
        self.call(lambda: self._drain(timeout))

    def lame_duck(self, seconds: float) -> None:
        """For so long, serve as if each request were the last of its client. Any thread."""
        self.call(lambda: self._lame_duck(seconds))

    def stop(self) -> None:
        """Cut everything, now. Any thread."""
        self.call(self._stop)

    def make_room(self) -> None:
        """Accept who waits, and close what is idle for that. Any thread."""
        self.call(self._make_room)

    def call(self, what: Callable[[], None]) -> None:
        """Call `what` on the relay's thread, soon. Any thread."""
        self._calls.append(what)
        with self._waking:
            if self._wake >= 0:  # else the relay is at its end, and this comes too late
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
            self._close_buried()
            self._flush_logs()
            with self._waking:
                os.close(self._wake)
                self._wake = -1
            self._epoll.close()

    def _turn(self) -> None:
        events = self._epoll.poll(self._timeout(), _PER_TURN)
        self.now = now = monotonic()
        handlers = self._handlers
        for fd, mask in events:
            handler = handlers.get(fd)  # None: an earlier event of this turn was its end
            if handler is not None:
                handler(mask)
            if self.hurry:
                self._send_out()
        timers = self._timers
        while timers and timers[0][0] <= now:
            what = heapq.heappop(timers)[2].what
            if what is not None:
                what()
        if self.outbox:
            self._send_out()
        if self._buried:
            self._close_buried()
        if self.unlogged and now - self._logged >= _LOG_DELAY:
            self._flush_logs()

    def _send_out(self) -> None:
        self.hurry = False
        for connection in self.outbox:  # grows while it is worked off
            connection.send_out()
        self.outbox.clear()

    def _timeout(self) -> float:
        until = self._timers[0][0] - monotonic() if self._timers else None
        if self.unlogged:
            until = _LOG_DELAY if until is None else min(until, _LOG_DELAY)
        return -1 if until is None else max(until, 0.0)

    def _close_buried(self) -> None:
        for each in self._buried:
            each.close()
        self._buried.clear()

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

    def hand(self, fd: int, handler: Callable[[int], None]) -> None:
        """Have `handler` called from now on instead."""
        self._handlers[fd] = handler

    def modify(self, fd: int, mask: int) -> None:
        """Wait for something else on `fd`."""
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        """Wait for `fd` no more."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def bury(self, dead: socket.socket) -> None:
        """Close `dead`, which is not registered any more, at the end of this turn."""
        self._buried.append(dead)

    def call_at(self, when: float, what: Callable[[], None]) -> Timer:
        """Call `what` at the time `when` of the monotonic clock."""
        timer = Timer(when, what)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def closed(self, connection: BaseConnection) -> None:
        """`connection` is no more."""
        count = len(self.connections)
        if count > self._most:
            self._most = count
        self.connections.discard(connection)
        if self._most >= _CROWD and count <= self._most // 2:
            self._most = 0
            self.call_at(self.now + _CROWD_GOES, heap.give_back)
        if self.draining:
            self.end_if_drained()

    def end_if_drained(self) -> None:
        """A drain ends when there is nobody to serve, and nobody can come."""
        if self.draining and not self.connections and all(listener.closed for listener in self._listeners):
            self._running = False

    def _add(self, listener: socket.socket, policy: Policy) -> None:
        if self.draining:
            listener.close()
            return
        # One that was shut is of use while it has connections, whose limits it keeps.
        used = {connection.listener for connection in self.connections}
        self._listeners = [each for each in self._listeners if not each.closed or each in used]
        if policy.outbound is None:
            self._listeners.append(Listener(self, listener, policy))
            return
        from sslterm.relay.outlet import Outlet  # here, because most sidecars call nobody

        self._listeners.append(Outlet(self, listener, policy, policy.outbound))

    def _lame_duck(self, seconds: float) -> None:
        self._lame_until = self.now + seconds
        self.call_at(self._lame_until, self._recover)
        if not (self.lame or self.draining):
            self.lame = True
            for connection in list(self.connections):
                connection.expect_end()

    def _recover(self) -> None:
        """The backend has not stopped, then."""
        if self.lame and self.now >= self._lame_until:
            self.lame = False
            for connection in self.connections:
                connection.expect_more()

    def _drain(self, timeout: float) -> None:
        if self.draining:
            return
        self.draining = True
        self.lame = False
        for listener in self._listeners:
            listener.drain(timeout)
        for connection in list(self.connections):
            connection.drain()
        self.call_at(self.now + timeout, self._stop)
        self.end_if_drained()

    def _make_room(self) -> None:
        for listener in self._listeners:
            listener.make_room()

    def _stop(self) -> None:
        self._running = False
        self.cut = sum(connection.under_way for connection in self.connections)
