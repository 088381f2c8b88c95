"""
The connections of one listening socket, and their limits.

Whoever can open the socket can send anything. A connection carries one request, which must be whole within seconds;
where there are too many, the oldest that is not, or has its answer, makes room. What happens to one of them ends
nothing but itself.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import anyio
from loguru import logger

from byfahrer.serving.http import MOST_HEAD, Answer, BadRequest, Exchange, Request
from byfahrer.serving.limits import Seldom

MOST_CONNECTIONS: Final = 64
"""At a time; others wait in the kernel's queue. A thousand sidecars need two or three, or all as they start."""
PATIENCE: Final = 0.25
"""Seconds that a request may take to come, or its sender to leave, where others wait. Sidecars send theirs at once."""
WHOLE: Final = 10.0
"""Seconds for a request, its answer, and the engine's two in between."""
MOST_LINGERING: Final = 1024**2
"""Bytes that are thrown away after the answer to a request that was too large."""
PAUSE: Final = 1.0
"""Seconds until connections are accepted again, where the process has no descriptor left."""
TELL_EVERY: Final = 60.0


class Connections:
    """Answers on one listening socket, of which people hear as `what`."""

    def __init__(
        self,
        listener: socket.socket,
        what: str,
        answer: Callable[[Request], Awaitable[Answer]],
        refused: Callable[[BadRequest], None],
    ) -> None:
        self._listener = listener
        self._what = what
        self._answer = answer
        self._refused = refused
        """Called with what is no request before it is answered."""
        self._open = 0
        self._idle: dict[anyio.CancelScope, float] = {}
        """Those whose request is not whole yet, or that have their answer, and since when; the oldest first."""
        self._closed = anyio.Event()
        self._told = Seldom(TELL_EVERY)

    async def serve(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._room()
                await anyio.wait_readable(self._listener)
                try:
                    connection, _ = self._listener.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    continue
                except OSError as error:
                    if self._told.again("accept") is not None:
                        logger.warning("{}: {}; who asks there waits", self._what, error.strerror)
                    await anyio.sleep(PAUSE)
                    continue
                self._open += 1
                tasks.start_soon(self._hold, connection)

    async def _room(self) -> None:
        """Have room for one connection more. Whoever has asked is not sent away for somebody who only might."""
        while self._open >= MOST_CONNECTIONS:
            scope, since = next(iter(self._idle.items()), (None, math.inf))
            wait = since + PATIENCE - anyio.current_time()
            if scope is not None and wait <= 0:
                self._idle.pop(scope)
                scope.cancel()
            self._closed = anyio.Event()
            with anyio.move_on_after(wait if wait > 0 else math.inf):
                await self._closed.wait()

    async def _hold(self, connection: socket.socket) -> None:
        """One connection, from first to last."""
        connection.setblocking(False)
        scope = anyio.CancelScope()
        self._idle[scope] = anyio.current_time()
        try:
            with connection, scope, suppress(ConnectionError), anyio.move_on_after(WHOLE):
                await self._converse(connection, scope)
        except Exception as error:  # noqa: BLE001 - a bug in one answer leaves the others theirs
            if self._told.again("bug") is not None:
                logger.opt(exception=error).error("{}: a bug of byfahrer; others are served on", self._what)
        finally:
            self._idle.pop(scope, None)
            self._open -= 1
            self._closed.set()

    async def _converse(self, connection: socket.socket, scope: anyio.CancelScope) -> None:
        exchange = Exchange()
        try:
            request = await self._receive(connection, exchange)
            if request is None:
                return
            self._idle.pop(scope, None)
            answer = await self._answer(request)
        except BadRequest as error:
            self._refused(error)
            answer = refusal(error.status, str(error))
        await _send(connection, exchange.answer(answer))
        # Who stays from here on must not keep others out.
        self._idle.setdefault(scope, anyio.current_time())
        await _linger(connection)

    async def _receive(self, connection: socket.socket, exchange: Exchange) -> Request | None:
        """The request; None if the client went away before it sent anything that needs an answer."""
        while True:
            data = await _read(connection)
            request = exchange.receive(data)
            if request is not None:
                return request
            if not data:
                return None
            interim = exchange.interim()
            if interim:
                await _send(connection, interim)


def refusal(status: int, text: str, retry_after: float = 0) -> Answer:
    """No, and why."""
    return Answer(status=status, content={"error": text}, retry_after=retry_after)


async def _send(connection: socket.socket, data: bytes) -> None:
    left = memoryview(data)
    while left:
        # Tried first, as in _read: to wait costs more than the call, and most answers fit, as most requests are there.
        try:
            left = left[connection.send(left) :]
        except BlockingIOError:
            await anyio.wait_writable(connection)


async def _read(connection: socket.socket) -> bytes:
    """What came; nothing at the end."""
    while True:
        try:
            return connection.recv(MOST_HEAD)
        except BlockingIOError:
            await anyio.wait_readable(connection)


async def _linger(connection: socket.socket) -> None:
    """Take what the client still sends: closed with unread bytes, a unix socket resets, and the answer may be lost."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # it is gone
        return
    left = MOST_LINGERING
    while left > 0 and (data := await _read(connection)):
        left -= len(data)
