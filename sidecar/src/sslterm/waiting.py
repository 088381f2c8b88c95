"""
Waits of the control plane for which anyio has no one call: for the first of several, for another thread, on a socket.

Sockets are waited for as they are. A stream of anyio's is a transport, a protocol and buffers of the event loop for a
conversation of two messages; and its `connect_unix` spins while a listener's queue is full.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable


class Bell:
    """Rung on any thread, heard by one task: once, however often it was rung meanwhile."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Have it heard."""
        with suppress(OSError):  # it is closed
            os.eventfd_write(self._fd, 1)

    async def heard(self) -> None:
        """Wait until it is rung, or was."""
        await anyio.wait_readable(self._fd)
        os.eventfd_read(self._fd)

    def close(self) -> None:
        """Nobody listens any more."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of `waits` does; the others are cancelled."""
    async with anyio.create_task_group() as race:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            race.cancel_scope.cancel()

        for wait in waits:
            race.start_soon(run, wait)


async def receive(source: socket.socket, size: int) -> bytes:
    """What comes next on a socket that does not block; empty at its end."""
    while True:
        try:
            return source.recv(size)
        except BlockingIOError:
            await anyio.wait_readable(source)


async def send(target: socket.socket, data: bytes) -> None:
    """All of `data` into a socket that does not block."""
    while data:
        try:
            data = data[target.send(data) :]
        except BlockingIOError:
            await anyio.wait_writable(target)
