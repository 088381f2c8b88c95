"""SIGUSR1 says that the target is about to stop: HTTP clients are told with each response, and nothing else changes."""

from __future__ import annotations

import signal
import socket

import pytest

from lab.backend import backend, echo, echo_requests, ok
from lab.client import Client, at_rest, get, relay
from lab.sidecar import wait_until

LAME = "SIGUSR1: for "
GONE = "listens no more"
WORKERS = pytest.mark.parametrize("extra", [(), ("--workers=2",)], ids=["one", "workers"])


def is_last(answer: tuple[int, bytes, bytes]) -> bool:
    """Whether this response, which must be a good one, is the last on its connection."""
    status, head, _ = answer
    assert status == 200
    return b"\r\nConnection: close\r\n" in head


@WORKERS
def test_responses_close_their_connections_and_it_wears_off(extra):
    with backend(echo_requests) as server, relay(server, "--drain-timeout=1500ms", *extra) as running:
        before, idle = Client(running.port), Client(running.port)
        assert not is_last(before.ask(get()))
        assert not is_last(idle.ask(get()))
        for times in (1, 2):  # twice is as once
            running.signal(signal.SIGUSR1)
            running.wait_for(LAME, times)

        def told() -> bool:
            with Client(running.port) as client:
                return is_last(client.ask(get()))

        wait_until(told, "a response that closes its connection")
        assert is_last(before.ask(get()))
        assert before.rest() == b""
        wait_until(lambda: not told(), "a connection that persists again")
        assert not is_last(idle.ask(get()))  # it asked nothing meanwhile
        before.close()
        idle.close()


@WORKERS
def test_a_response_under_way_is_the_last(extra):
    def slow(peer):
        peer.head()
        server.seen.put(b"asked")
        server.wait()
        peer.send(ok())
        peer.rest()

    with backend(slow) as server, relay(server, *extra) as running, Client(running.port) as client:
        client.send(get())
        server.sees()
        running.signal(signal.SIGUSR1)
        running.wait_for(LAME)
        at_rest(running)
        server.go_on()
        assert is_last(client.answer())


def test_who_comes_now_has_a_place_with_the_backend_at_once():
    """The backend may close its listener any moment: what it accepted it answers, whenever the client asks."""
    with backend(echo_requests) as server, relay(server, mortal=True) as running:
        early = Client(running.port)  # has asked nothing
        running.signal(signal.SIGUSR1)
        running.wait_for(LAME)
        late = Client(running.port)
        half = socket.create_connection(("127.0.0.1", running.port))  # has not even begun its handshake
        wait_until(lambda: server.accepted == 3, "all three at the backend")
        server.stop_listening()
        running.wait_for(GONE)
        assert is_last(early.ask(get()))
        assert is_last(late.ask(get()))
        for each in (early, late, half):
            each.close()
        running.stop()


def test_what_the_backend_closes_is_closed_here():
    """A server that stops closes its idle connections: a request sent after that would find nobody."""
    with backend(lambda peer: server.wait()) as server, relay(server, mortal=True) as running:
        client = Client(running.port)
        running.signal(signal.SIGUSR1)
        wait_until(lambda: server.accepted == 1, "a connection to the backend")
        server.go_on()
        assert client.rest() == b""
        client.close()
        running.stop()


def test_a_refused_client_gets_no_answer_but_a_reset():
    """Nothing was asked: who is reset before its handshake has lost no request, and tries the next replica."""
    with backend(echo_requests) as server, relay(server, "--listen-when=always", mortal=True) as running:
        running.signal(signal.SIGUSR1)
        running.wait_for(LAME)
        server.stop_listening()
        with pytest.raises(OSError, match=r"reset|EOF"):
            Client(running.port)
        running.stop()


def test_in_tcp_mode_nothing_happens():
    flags = "--mode=tcp", "--log-level=debug"
    with backend(echo) as server, relay(server, *flags) as running, Client(running.port) as client:
        running.signal(signal.SIGUSR1)
        running.wait_for("SIGUSR1: nothing to tell in tcp mode")
        client.send(b"still here")
        assert client.exactly(10) == b"still here"


def test_sigterm_ends_it_as_ever():
    with backend(echo_requests) as server, relay(server, mortal=True) as running:
        running.signal(signal.SIGUSR1)
        running.wait_for(LAME)
        running.stop()
        assert running.said("Stopped; served 0 requests")
