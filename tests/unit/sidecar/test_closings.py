"""What the kernel tells of listeners that are closed, and that it tells nothing else."""

from __future__ import annotations

import socket

import anyio
import pytest

from sslterm.closings import Closings


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def heard(closings: Closings, seconds: float) -> bool:
    async def listen() -> bool:
        with anyio.move_on_after(seconds):
            await closings.heard()
            return True
        return False

    return anyio.run(listen)


def test_a_listener_that_closes_is_heard(listener):
    closings = Closings(listener.getsockname()[1])
    try:
        listener.close()
        assert heard(closings, 20)
    finally:
        closings.close()


def test_connections_and_other_ports_are_not(listener):
    closings = Closings(listener.getsockname()[1])
    try:
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass
        socket.create_server(("127.0.0.1", 0)).close()
        assert not heard(closings, 0.2)
        listener.close()
        assert heard(closings, 20)
    finally:
        closings.close()


def test_where_it_is_forbidden_there_is_none(monkeypatch):
    class Forbidden(socket.socket):
        def bind(self, _address):
            raise PermissionError(1, "not here")

    monkeypatch.setattr(socket, "socket", Forbidden)
    with pytest.raises(PermissionError):
        Closings(80)
