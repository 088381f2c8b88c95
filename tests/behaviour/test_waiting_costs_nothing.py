"""However oddly a connection is left, the process waits without work: no event is reported again and again."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress

import pytest

from lab.backend import Peer, backend, echo, echo_requests, ok
from lab.client import Client, access_lines, at_rest, cpu_ticks, get, memory, post, relay
from lab.sidecar import wait_until

BULK = bytes(20_000_000)


def test_half_closed_by_the_client_while_the_backend_is_silent():
    def silent(peer):
        peer.rest()
        server.wait()

    with backend(silent) as server, relay(server, "--mode=tcp") as running, Client(running.port) as client:
        client.end()
        client.raw.shutdown(socket.SHUT_WR)
        at_rest(running)
        server.go_on()
        assert client.rest() == b""


def test_half_closed_by_the_backend_while_the_client_is_silent():
    def ends(peer):
        peer.end()
        peer.rest()

    with backend(ends) as server, relay(server, "--mode=tcp") as running, Client(running.port) as client:
        assert client.rest() == b""
        at_rest(running)


@pytest.mark.parametrize("how", ["in order", "reset"])
@pytest.mark.parametrize("client_ended", [False, True], ids=["client open", "client half-closed"])
def test_the_backend_ends_while_the_client_does_not_read(how, client_ended):
    """Its end is reported by epoll whether it is asked for or not."""

    def flood(peer):
        peer.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        if client_ended:
            peer.rest()
        peer.raw.settimeout(0.3)
        with suppress(TimeoutError):
            peer.send(BULK)
        if how == "reset":
            peer.reset()
        server.seen.put(b"done")

    with backend(flood) as server, relay(server, "--mode=tcp") as running:
        client = Client(running.port, receive_buffer=8192)
        if client_ended:
            client.end()
        assert server.sees() == b"done"
        at_rest(running)
        if how == "reset":
            assert client.is_cut()
        else:
            assert 0 < len(client.rest()) < len(BULK)
        client.close()
        at_rest(running)


def test_both_have_ended_but_the_backend_takes_nothing():
    def deaf(peer):
        peer.end()
        server.wait()
        server.seen.put(b"%d" % len(peer.rest()))

    def say_all(client):
        client.send(BULK)
        client.end()

    with backend(deaf) as server, relay(server, "--mode=tcp") as running, Client(running.port) as client:
        assert client.rest() == b""
        speaker = threading.Thread(target=say_all, args=(client,))
        speaker.start()
        at_rest(running)
        server.go_on()
        assert server.sees() == b"%d" % len(BULK)
        speaker.join()


def test_both_have_ended_and_the_backend_resets_with_bytes_on_their_way():
    def deaf(peer):
        peer.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.end()
        server.wait()
        peer.reset()

    with backend(deaf) as server, relay(server, "--mode=tcp") as running:
        client = Client(running.port)
        assert client.rest() == b""
        client.send(bytes(500_000))
        client.end()
        at_rest(running)
        server.go_on()
        access_lines(running, 1)
        at_rest(running)
        client.close()


def test_a_client_that_sent_ahead_and_then_ended_or_left():
    def slow(peer):
        server.seen.put(peer.head())
        server.wait()
        peer.send(ok())
        peer.rest()

    with backend(slow) as server, relay(server) as running, ExitStack() as stack:
        for leave in (lambda each: each.end(), lambda each: each.raw.shutdown(socket.SHUT_WR), lambda each: None):
            client = stack.enter_context(Client(running.port))
            client.send(get() + get())
            assert server.sees()
            leave(client)
        at_rest(running)
        for _ in range(6):
            server.go_on()


def test_a_client_that_does_not_close_after_its_last_response():
    with backend(echo_requests) as server, relay(server) as running:
        client = Client(running.port)
        assert client.ask(get(b"/", b"Connection: close"))[0] == 200
        assert client.rest() == b""
        at_rest(running)
        client.raw.close()


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_what_a_client_sends_after_its_end_is_not_kept(mode):
    """After close_notify there is nothing to decrypt; what comes all the same must not pile up."""

    def silent(peer):
        if mode == "http":
            peer.head()
        server.wait()
        peer.send(ok())
        peer.rest()

    with backend(silent) as server, relay(server, f"--mode={mode}") as running, Client(running.port) as client:
        client.send(get())
        client.end()
        before = memory(running.pid)
        for _ in range(1000):
            client.raw.sendall(bytes(65536))
        assert memory(running.pid) - before < 16_000_000
        server.go_on()
        assert client.until(b"ok")


def test_a_handshake_that_stops_half_way():
    with backend(echo) as server, relay(server) as running:
        peers = [Peer(socket.create_connection(("127.0.0.1", running.port))) for _ in range(20)]
        for number, peer in enumerate(peers):
            peer.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[:number])
        at_rest(running)
        for peer in peers:
            peer.close()


def test_an_upload_that_nobody_takes():
    def deaf(peer):
        peer.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        peer.head()
        server.wait()

    with backend(deaf) as server, relay(server) as running:
        client = Client(running.port)
        client.raw.settimeout(0.3)
        with suppress(TimeoutError):
            client.send(post(BULK))
        at_rest(running)
        client.raw.close()
        at_rest(running)
        server.go_on()


def test_ten_thousand_bytes_one_by_one_are_no_busy_loop():
    with backend(echo) as server, relay(server, "--mode=tcp") as running:
        with Client(running.port) as client:
            for _ in range(2000):
                client.send(b"x")
            assert client.exactly(2000) == b"x" * 2000
            used = cpu_ticks(running.pid)
            at_rest(running)
            assert cpu_ticks(running.pid) - used < 50
        wait_until(lambda: running.access, "the line")
