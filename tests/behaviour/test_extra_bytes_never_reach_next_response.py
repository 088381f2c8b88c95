"""What a backend sends beyond its response costs it the connection, and never becomes part of another answer."""

from __future__ import annotations

import pytest

from lab.backend import backend, ok
from lab.client import Client, get, relay

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.mark.parametrize("extra", [POISON, b"\r\n", b"x", POISON * 1000])
@pytest.mark.parametrize("ahead", [False, True], ids=["one by one", "sent ahead"])
def test_extra_bytes_in_one_piece_with_the_response(extra, ahead):
    def answer(peer):
        peer.send(ok(peer.head().split()[1]) + extra)
        peer.rest()

    paths = [b"/1", b"/2", b"/3"]
    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            if ahead:
                client.send(b"".join(get(path) for path in paths))
                assert [client.answer()[2] for _ in paths] == paths
            else:
                assert [client.ask(get(path))[2] for path in paths] == paths
        assert server.accepted == 3


def test_extra_bytes_while_the_connection_is_idle():
    def answer(peer):
        peer.send(ok(peer.head().split()[1]))
        server.wait()
        peer.send(POISON)
        server.seen.put(b"gone" if peer.rest() == b"" else b"used")

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            for path in (b"/1", b"/2"):
                assert client.ask(get(path))[2] == path
                server.go_on()
                assert server.sees() == b"gone"
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("method", "head"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_a_body_where_none_belongs(method, head):
    def answer(peer):
        peer.head()
        peer.send(head + b"poison")
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            for _ in range(2):
                client.send(get(method=method))
                client.head()
                if b"chunked" in head:
                    assert client.exactly(5) == b"0\r\n\r\n"
        assert server.accepted == 2
