"""One connection serves many requests, one after the other or sent ahead, over one connection to the backend."""

from __future__ import annotations

import subprocess

import pytest

from lab.backend import backend, echo_requests, ok
from lab.client import Client, get, post, relay


def test_many_requests_take_one_connection_on_each_side():
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as client:
            for number in range(50):
                status, head, body = client.ask(get(b"/%d" % number))

                assert (status, body) == (200, b"GET /%d " % number)
                assert b"connection:" not in head.lower()
        assert server.accepted == 1


def test_requests_that_are_sent_ahead_are_answered_in_order():
    requests = [get(b"/1"), post(b"two", b"/2"), get(b"/3"), post(b"", b"/4"), post(b"x" * 200_000, b"/5"), get(b"/6")]
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as client:
            client.send(b"".join(requests))
            bodies = [client.answer()[2] for _ in requests]

        assert [body[:8].strip() for body in bodies] == [
            b"GET /1", b"POST /2", b"GET /3", b"POST /4", b"POST /5", b"GET /6",
        ]  # fmt: skip
        assert bodies[4] == b"POST /5 " + b"x" * 200_000
        assert server.accepted == 1


def test_a_thousand_requests_in_one_piece_and_one_byte_at_a_time():
    sent = get() * 1000
    with backend(echo_requests) as server, relay(server) as running, Client(running.port) as client:
        client.send(sent)
        for _ in range(1000):
            assert client.answer()[0] == 200
        for byte in get(b"/bytewise") + post(b"body", b"/too"):
            client.send(bytes([byte]))
        assert client.answer()[2] == b"GET /bytewise "
        assert client.answer()[2] == b"POST /too body"


def test_the_end_of_what_a_client_has_to_say_does_not_cost_it_the_answers():
    """A half-close: `printf 'GET …' | openssl s_client`."""
    with backend(echo_requests) as server, relay(server) as running, Client(running.port) as client:
        client.send(get(b"/1") + get(b"/2"))
        client.end()

        assert [client.answer()[2], client.answer()[2]] == [b"GET /1 ", b"GET /2 "]
        assert client.rest() == b""


@pytest.mark.parametrize("who", ["client", "backend"])
def test_close_is_obeyed_from_either_side(who):
    def close_after_one(peer):
        peer.head()
        peer.send(ok(b"ok", *([b"Connection: close"] if who == "backend" else [])))
        peer.rest()

    with backend(close_after_one) as server, relay(server) as running:
        with Client(running.port) as client:
            status, head, body = client.ask(get(b"/", *([b"Connection: close"] if who == "client" else [])))

            assert (status, body) == (200, b"ok")
            assert (b"Connection: close" in head) is (who == "client")
            if who == "client":
                assert client.rest() == b""
            else:
                assert client.ask(get())[0] == 200, "only the backend's connection ended"
        assert server.accepted == (1 if who == "client" else 2)


@pytest.mark.parametrize(
    ("request_", "response", "reply"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", ok(), b"ok"),
        (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"abc",
        ),
    ],
)
def test_clients_of_http_1_0_are_served(request_, response, reply):
    def answer(peer):
        assert peer.head().startswith(b"GET / HTTP/1.0")
        peer.send(response)

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(request_)
        head = client.head()

        assert b"Connection: close" in head
        assert b"chunked" not in head
        assert client.rest() == reply


def test_http_1_0_keep_alive():
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as client:
            for _ in range(3):
                head = client.ask(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")[1]
                assert b"Connection: keep-alive" in head
        assert server.accepted == 1


@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
    ],
)
def test_responses_without_a_body_end_with_their_head(method, response):
    def answer(peer):
        while peer.head():
            peer.send(response)

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            for _ in range(3):
                client.send(get(method=method))
                assert client.head() == response
        assert server.accepted == 1


def test_curl_keeps_its_connection():
    with backend(echo_requests) as server, relay(server) as running:
        url = f"https://127.0.0.1:{running.port}"
        said = subprocess.run(
            ["curl", "-ks", f"{url}/a", f"{url}/b", "-d", "body"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

        assert said.stdout == "POST /a bodyPOST /b body"
        assert server.accepted == 1
