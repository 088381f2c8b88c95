"""A backend may close a connection between requests: what can be repeated is, once, and nobody else notices."""

from __future__ import annotations

import pytest

from lab.backend import backend, echo_requests, ok
from lab.client import Client, get, post, relay
from lab.sidecar import wait_until


def close_after_each(peer):
    peer.send(ok(peer.head().split()[0]))


@pytest.mark.parametrize("request_", [get(), post(b"x")])
def test_a_connection_that_was_closed_in_time_is_replaced(request_):
    with backend(close_after_each) as server, relay(server) as running, Client(running.port) as client:
        for number in range(3):
            assert client.ask(get())[0] == 200
            wait_until(lambda: sockets(running) == 2, "the backend's end seen: a listener and a client are left")
            assert client.ask(request_)[0] == 200
            wait_until(lambda: sockets(running) == 2, "the backend's end seen")
            assert server.accepted == 2 * number + 2


def sockets(running):
    """Its TCP sockets."""
    from pathlib import Path

    inodes = {
        link[8:-1] for link in map(read_link, Path(f"/proc/{running.pid}/fd").iterdir()) if link.startswith("socket:")
    }
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[9] in inodes for line in lines)


def read_link(path):
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""


def refuse_the_second(peer):
    """Answers one request; takes the next one and hangs up, as one that closes at that very moment seems to do."""
    peer.head()
    peer.send(ok())
    server_saw = peer.head()
    assert server_saw
    peer.reset()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])
def test_a_repeatable_request_that_meets_the_close_is_sent_again(method):
    with backend(refuse_the_second) as server, relay(server) as running:
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
            client.send(get(method=method))
            assert client.answer(method=method)[0] == 200
        assert server.accepted == 2


@pytest.mark.parametrize(
    "request_", [post(b""), post(b"x"), get(method=b"PATCH"), get(b"/", b"Content-Length: 1") + b"x"]
)
def test_any_other_is_502_and_never_sent_twice(request_):
    with backend(refuse_the_second) as server, relay(server) as running:
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
            assert client.ask(request_)[0] == 502
        assert server.accepted == 1


def test_it_is_sent_again_once_not_for_ever():
    def refuse(peer):
        if server.accepted == 1:
            peer.head()
            peer.send(ok())
        peer.head()
        peer.reset()

    with backend(refuse) as server, relay(server) as running:
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
            assert client.ask(get())[0] == 502
        assert server.accepted == 2


def test_a_first_request_is_never_sent_twice():
    def refuse(peer):
        peer.head()
        peer.reset()

    with backend(refuse) as server, relay(server) as running:
        with Client(running.port) as client:
            assert client.ask(get())[0] == 502
        assert server.accepted == 1


def test_each_client_has_a_backend_connection_of_its_own():
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as one, Client(running.port) as other:
            for _ in range(3):
                one.ask(get())
                other.ask(get())
        assert server.accepted == 2
