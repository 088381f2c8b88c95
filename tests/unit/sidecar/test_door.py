"""When the port opens and shuts, with a kernel that does not tell of listeners that close."""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager

import anyio
import pytest

from sslterm import door, netns
from sslterm.door import Door, are_here
from sslterm.relay.policy import Backend
from sslterm.relay.tally import ACCEPTED, Tally
from sslterm.settings import Address, Settings
from sslterm.waiting import Bell

LOOPBACK = Backend(socket.AF_INET, ("127.0.0.1", 80))


class Relay:
    """Keeps the listener, and does nothing with it."""

    def __init__(self):
        self.tally = Tally()
        self.refused = Bell()
        self.served: list[socket.socket] = []

    async def serve(self, listener, backends):
        assert backends
        self.served.append(listener)

    def shut(self):
        self.served[-1].close()


@asynccontextmanager
async def kept(backend_port, **more):
    front = socket.create_server(("127.0.0.1", 0))
    settings = Settings(
        frontend_addr=Address("127.0.0.1", front.getsockname()[1]),
        backend_addr=Address("127.0.0.1", backend_port),
        **more,
    )
    front.close()
    relay, told, turns = Relay(), [], []
    made = Door(settings, relay, lambda _, line: told.append(line), lambda: turns.append(made.open), {})
    async with anyio.create_task_group() as tasks:
        await made.start(tasks, settings.backend_addr, (Backend(socket.AF_INET, ("127.0.0.1", backend_port)),))
        tasks.start_soon(made.keep)
        yield relay, told, turns
        tasks.cancel_scope.cancel()
    relay.refused.close()
    for each in relay.served:
        each.close()


async def until(look):
    with anyio.fail_after(20):
        while not look():  # noqa: ASYNC110 - several things are waited for, none of which tells
            await anyio.sleep(0.005)


@pytest.fixture
def deaf(monkeypatch):
    """A kernel without sock_diag's news."""

    def closings(_port):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(door, "Closings", closings)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def test_it_shuts_and_opens_by_looking(deaf, listener):
    async def turn():
        port = listener.getsockname()[1]
        async with kept(port) as (relay, told, turns):
            assert turns == [True]
            relay.tally.mine[ACCEPTED] += 1  # somebody comes: it looks often
            listener.close()
            await until(lambda: turns == [True, False])
            with socket.create_server(("127.0.0.1", port)):
                await until(lambda: turns == [True, False, True])
        assert sum("does not tell of listeners that close" in each for each in told) == 1

    anyio.run(turn)


def test_a_refused_connection_makes_it_look_at_once(deaf, monkeypatch, listener):
    monkeypatch.setattr(door, "_OFTEN", 1000.0)
    monkeypatch.setattr(door, "_SELDOM", 1000.0)

    async def turn():
        async with kept(listener.getsockname()[1]) as (relay, _, turns):
            listener.close()
            relay.refused.ring()
            await until(lambda: turns == [True, False])

    anyio.run(turn)


def test_a_refusal_of_one_that_listens_changes_nothing(listener):
    async def turn():
        async with kept(listener.getsockname()[1]) as (relay, _, turns):
            relay.refused.ring()
            await anyio.sleep(0.1)
            assert turns == [True]

    anyio.run(turn)


def test_without_a_look_it_stays_as_it_is(deaf, monkeypatch, listener):
    looks = []

    def fail(_ports):
        looks.append(1)
        raise OSError(errno.EMFILE, "Too many open files")

    async def turn():
        port = listener.getsockname()[1]
        async with kept(port) as (relay, told, turns):
            with monkeypatch.context() as blind:
                blind.setattr(netns, "listening", fail)
                listener.close()
                await until(lambda: relay.refused.ring() or len(looks) > 2)
                assert turns == [True]
            relay.refused.ring()
            await until(lambda: turns == [True, False])
        assert told.count("Cannot look who listens here: Too many open files; trying again") == 1

    anyio.run(turn)


@pytest.mark.parametrize(
    ("backends", "expected"),
    [
        ((LOOPBACK,), True),
        ((Backend(socket.AF_INET6, ("::1", 80, 0, 0)),), True),
        ((Backend(socket.AF_INET6, ("fe80::1%eth0", 80, 0, 0)),), False),
        ((Backend(socket.AF_INET, ("192.0.2.1", 80)),), False),
        ((LOOPBACK, Backend(socket.AF_INET, ("192.0.2.1", 80))), False),
        ((Backend(socket.AF_INET, ("10.0.0.5", 80)),), True),
        ((Backend(socket.AF_INET, ("0.0.0.0", 80)),), True),
        ((Backend(socket.AF_INET6, ("::", 80, 0, 0)),), True),
    ],
)
def test_only_a_backend_in_this_namespace_can_be_watched(monkeypatch, backends, expected):
    monkeypatch.setattr("sslterm.netns.read_addresses", lambda: frozenset({"10.0.0.5"}))

    assert are_here(backends) is expected
