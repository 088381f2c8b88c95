"""A head longer than `--max-head-size` is refused with 431; one that just fits passes."""

from __future__ import annotations

import pytest

from lab.backend import backend, echo_requests, ok
from lab.client import Client, get, relay

LIMIT = 4096


def head_of(size):
    """A request whose head takes exactly `size` bytes as the limit counts them: without its last CRLF CRLF."""
    bare = len(get(b"/", b"X-Pad: ")) - 4
    return get(b"/", b"X-Pad: " + b"x" * (size - bare))


@pytest.mark.parametrize("pieces", [1, 50])
def test_the_limit_is_where_it_is_said_to_be(pieces):
    def send(client, data):
        step = -(-len(data) // pieces)
        for at in range(0, len(data), step):
            client.send(data[at : at + step])

    with backend(echo_requests) as server, relay(server, "--max-head-size=4KiB") as running:
        with Client(running.port) as client:
            send(client, head_of(LIMIT))
            assert client.answer()[0] == 200
            send(client, head_of(LIMIT + 1))
            status, head, _ = client.answer()
            assert status == 431
            assert b"Connection: close" in head
            assert client.rest() == b""
        with Client(running.port) as client:
            client.send(b"GET /" + b"x" * 100_000)
            assert client.answer()[0] == 431
        assert server.accepted == 1


def test_trailers_have_the_same_limit():
    with (
        backend(echo_requests) as server,
        relay(server, "--max-head-size=4KiB") as running,
        Client(running.port) as client,
    ):
        client.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"0\r\n" + b"A: b\r\n" * 1000 + b"\r\n")
        assert client.answer()[0] == 431


def test_a_response_with_such_a_head_is_502():
    def answer(peer):
        peer.head()
        peer.send(ok(b"ok", b"X-Pad: " + b"x" * LIMIT))

    with (
        backend(answer) as server,
        relay(server, "--max-head-size=4KiB") as running,
        Client(running.port) as client,
    ):
        assert client.ask(get())[0] == 502
