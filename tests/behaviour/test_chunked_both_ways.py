"""Chunked bodies pass in both directions, piece by piece, with their trailers."""

from __future__ import annotations

import subprocess

from lab.backend import backend, echo_requests, ok, read_body
from lab.client import Client, get, post, relay

CHUNKED = b"Transfer-Encoding: chunked"


def test_a_chunked_upload_arrives_whole():
    with backend(echo_requests) as server, relay(server) as running, Client(running.port) as client:
        client.send(get(b"/up", CHUNKED, method=b"PUT"))
        for _ in range(100):
            client.send(b"400;ext=1\r\n" + b"x" * 1024 + b"\r\n")
        client.send(b"0\r\n\r\n")

        assert client.answer()[2] == b"PUT /up " + b"x" * 102_400


def test_pieces_pass_as_they_come():
    """Each side waits for the other's piece before it sends its next one."""

    def converse(peer):
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n\r\n")
        for number in b"123":
            assert peer.until(b"\r\n") == b"1\r\n"
            assert peer.until(b"\r\n") == b"%c\r\n" % number
            peer.send(b"2\r\n%c!\r\n" % number)
        assert peer.until(b"\r\n\r\n") == b"0\r\n\r\n"
        peer.send(b"0\r\n\r\n")

    with backend(converse) as server, relay(server) as running, Client(running.port) as client:
        client.send(get(b"/", CHUNKED, method=b"POST"))
        client.head()
        for number in b"123":
            client.send(b"1\r\n%c\r\n" % number)
            assert client.until(b"!\r\n") == b"2\r\n%c!\r\n" % number
        client.send(b"0\r\n\r\n")
        assert client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_trailers_pass_both_ways_and_those_of_framing_do_not():
    def answer(peer):
        peer.head()
        server.seen.put(peer.until(b"\r\n\r\n"))
        peer.send(b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\nContent-Length: 7\r\n\r\n")
        peer.rest()

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(get(b"/", CHUNKED, method=b"POST") + b"0\r\nX-Sum: 1\r\nHost: evil\r\nX_Real_Ip: 6.6.6.6\r\n\r\n")

        assert server.sees() == b"0\r\nX-Sum: 1\r\n\r\n"
        client.head()
        assert client.until(b"\r\n\r\n") == b"2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"


def test_curl_uploads_what_it_reads_from_a_pipe():
    with backend(echo_requests) as server, relay(server) as running:
        said = subprocess.run(
            ["curl", "-ks", "-T", "-", f"https://127.0.0.1:{running.port}/pipe"],
            input=b"from a pipe " * 10_000, capture_output=True, timeout=30, check=True,
        )  # fmt: skip

        assert said.stdout == b"PUT /pipe " + b"from a pipe " * 10_000


def test_a_response_may_be_chunked_byte_by_byte():
    def answer(peer):
        while head := peer.head():
            read_body(peer, head)
            for byte in b"HTTP/1.1 200 OK\r\n" + CHUNKED + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n":
                peer.send(bytes([byte]))

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            assert client.ask(get())[2] == b"hello"
            assert client.ask(post(b"x"))[2] == b"hello"
        assert server.accepted == 1


def test_what_is_not_chunked_is_not_made_so():
    def answer(peer):
        server.seen.put(peer.head())
        peer.send(ok(b"hello"))
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            assert b"chunked" not in client.ask(post(b""))[1]
        assert b"chunked" not in server.sees()
