"""A backend that is not there costs a short 502 and a log line, and is used again as soon as it is back."""

from __future__ import annotations

import pytest

from lab.backend import Backend, backend, echo_requests
from lab.client import Client, get, post, relay
from lab.sidecar import free_port


def test_refused_connections_are_502_until_somebody_listens():
    port = free_port()
    with relay(port, "--listen-when=always") as running:
        with Client(running.port) as client:
            status, head, body = client.ask(get(b"/away"))

            assert (status, body) == (502, b"502 Bad Gateway\n")
            assert b"Connection: close" in head
            assert client.rest() == b""
        with Client(running.port) as client:
            assert client.ask(post(b"x" * 100_000))[0] == 502, "with a body that nobody takes, too"
        with Client(running.port) as client:
            client.send(get(method=b"HEAD") + get())
            assert b"Content-Length: 16" in client.head()
            assert client.rest() == b""
        assert len(running.wait_for(f"WARN .*backend 127.0.0.1:{port}: Connection refused")) == 1, (
            "said once, not thrice"
        )
        back = Backend(echo_requests, port)
        with Client(running.port) as client:
            assert client.ask(get(b"/back"))[2] == b"GET /back "
        back.finish()
    assert [line.split(" | ")[1] for line in running.access] == ["502", "502", "502", "200"]
    assert running.access[0].endswith(f"GET /away | 16 | backend 127.0.0.1:{port}: Connection refused")


def test_in_tcp_mode_the_client_sees_a_cut():
    with relay(free_port(), "--mode=tcp", "--listen-when=always") as running:
        client = Client(running.port)
        assert client.is_cut()
        client.close()
        running.wait_for("Connection refused")


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000,
        b"",
        b"HTTP/1.1 200 O",
    ],
)
def test_what_is_no_response_is_502(said):
    def answer(peer):
        peer.head()
        peer.send(said)

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        assert client.ask(get())[::2] == (502, b"502 Bad Gateway\n")
