"""Waits that anyio has no call for."""

from __future__ import annotations

import socket

import anyio

from sslterm.waiting import first_of, receive, send


def test_the_first_ends_the_others():
    ended = []

    async def wait(seconds):
        try:
            await anyio.sleep(seconds)
        finally:
            ended.append(seconds)

    anyio.run(first_of, lambda: wait(0), lambda: wait(1000))

    assert sorted(ended) == [0, 1000]


def test_more_than_a_socket_takes_goes_through_it():
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    data = bytes(range(256)) * 20_000

    async def scenario():
        found = bytearray()

        async def write():
            await send(near, data)
            near.shutdown(socket.SHUT_WR)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            while more := await receive(far, 65536):
                found.extend(more)
        return bytes(found)

    with near, far:
        assert anyio.run(scenario) == data
