"""Every wait has an end: handshake, head, body, response taken, idle connection; a trickle does not put it off."""

from __future__ import annotations

import socket
import time

import pytest

from lab.backend import Peer, backend, echo, echo_requests, ok
from lab.client import Client, access_lines, get, relay
from lab.sidecar import wait_until


def dial(running):
    return Peer(socket.create_connection(("127.0.0.1", running.port)))


def trickle(peer, data):
    """Send byte by byte until the other side closes; how much went out."""
    peer.raw.settimeout(0.02)
    for count in range(len(data)):
        try:
            peer.send(data[count : count + 1])
            try:
                if not peer.raw.recv(1, socket.MSG_PEEK):
                    return count
            except TimeoutError:
                continue
        except (ConnectionResetError, BrokenPipeError):
            return count
        else:
            peer.raw.settimeout(30)
            return count
    raise AssertionError("it was never cut off")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_that_does_not_go_on_is_ended(said):
    with backend(echo_requests) as server, relay(server, "--handshake-timeout=300ms") as running:
        peer = dial(running)
        if said:
            peer.send(said)
        assert peer.rest() == b""
        peer.close()


def test_a_handshake_that_trickles_is_ended():
    with backend(echo_requests) as server, relay(server, "--handshake-timeout=300ms") as running:
        peer = dial(running)
        trickle(peer, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
        peer.close()


def test_a_head_that_trickles_is_408():
    with backend(echo_requests) as server, relay(server, "--head-timeout=300ms") as running:
        client = Client(running.port)
        trickle(client, b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 500)
        assert client.answer()[0] == 408
        client.raw.close()
        assert "| 408 |" in access_lines(running, 1)[0]
        assert server.accepted == 0


def test_a_head_sent_ahead_has_the_same_time():
    with (
        backend(echo_requests) as server,
        relay(server, "--head-timeout=300ms") as running,
        Client(running.port) as client,
    ):
        client.send(get() + b"GET / HT")
        assert client.answer()[0] == 200
        assert client.answer()[0] == 408


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_408(framing):
    with (
        backend(echo_requests) as server,
        relay(server, "--stall-timeout=300ms") as running,
        Client(running.port) as client,
    ):
        assert client.ask(get(b"/", framing, method=b"POST"))[0] == 408
        assert client.rest() == b""


@pytest.mark.parametrize("served", [0, 1])
def test_an_idle_connection_is_closed_in_order(served):
    with backend(echo_requests) as server, relay(server, "--keepalive-timeout=300ms") as running:
        with Client(running.port) as client:
            for _ in range(served):
                assert client.ask(get())[0] == 200
            assert client.rest() == b""
        wait_until(lambda: len(running.access) == served, "no line but those of requests")


def test_an_idle_connection_is_not_kept_by_records_without_content():
    with backend(echo_requests) as server, relay(server, "--keepalive-timeout=500ms") as running:
        client = Client(running.port)
        record = b"\x17\x03\x03\x40\x00" + bytes(500)  # never whole
        trickle(client_raw := Peer(client.raw), record)
        client_raw.close()


def test_a_response_that_nobody_takes_is_cut():
    def bulk(peer):
        peer.head()
        peer.send(ok(bytes(20_000_000)))

    with backend(bulk) as server, relay(server, "--stall-timeout=300ms") as running:
        client = Client(running.port, receive_buffer=8192)
        client.send(get())
        client.head()
        line = access_lines(running, 1)[0]
        assert "the client did not take the response in time" in line
        assert client.is_cut()
        client.raw.close()


def test_a_client_that_reads_slowly_but_reads_is_served():
    def bulk(peer):
        peer.head()
        peer.send(ok(bytes(3_000_000)))
        peer.rest()

    with (
        backend(bulk) as server,
        relay(server, "--stall-timeout=1s") as running,
        Client(running.port, receive_buffer=8192) as client,
    ):
        assert client.ask(get())[2] == bytes(3_000_000)


def test_a_tcp_connection_without_a_byte_either_way_is_cut():
    with backend(echo) as server, relay(server, "--mode=tcp", "--idle-timeout=300ms") as running:
        client = Client(running.port)
        client.send(b"x")
        assert client.exactly(1) == b"x"
        assert client.is_cut()
        client.raw.close()
        assert "timed out" in access_lines(running, 1)[0]


def test_bytes_either_way_keep_a_tcp_connection():
    def tick(peer):
        peer.raw.settimeout(0.05)
        for _ in range(20):
            try:
                assert peer.recv() == b""
            except TimeoutError:
                peer.send(b"x")

    with (
        backend(tick) as server,
        relay(server, "--mode=tcp", "--idle-timeout=500ms") as running,
        Client(running.port) as client,
    ):
        assert client.exactly(20) == b"x" * 20


def test_a_response_body_that_stops_is_cut():
    def stops(peer):
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        peer.rest()

    with backend(stops) as server, relay(server, "--idle-timeout=300ms") as running:
        client = Client(running.port)
        client.send(get())
        assert client.until(b"half")
        assert client.is_cut()
        client.raw.close()


def test_a_client_that_does_not_close_after_us_is_left_behind():
    """After its last response a client has a few seconds to close; then nothing of it is left here."""
    with backend(echo_requests) as server, relay(server) as running:
        client = Client(running.port)
        assert client.ask(get(b"/", b"Connection: close"))[0] == 200
        assert client.rest() == b""

        def left_behind():
            try:
                client.raw.send(b"x")
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        wait_until(left_behind, "nobody listens any more")
        client.raw.close()


def test_each_pipelined_request_has_the_time_of_its_own():
    def takes_its_time(peer):
        while True:
            head = peer.head()
            for _ in range(4):
                peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
                time.sleep(0.1)
            peer.send(ok(head.split(b" ")[1]))

    with (
        backend(takes_its_time) as server,
        relay(server, "--response-timeout=1s") as running,
        Client(running.port) as client,
    ):
        client.send(b"".join(get(b"/%d" % number) for number in range(6)))
        seen = []
        while len(seen) < 6:
            status, _, body = client.answer()
            if status != 103:
                seen.append((status, body))

        assert seen == [(200, b"/%d" % number) for number in range(6)]
