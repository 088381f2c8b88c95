"""A hundred clients, as slow as they like: each is ended by its limit, others are served meanwhile, nothing stays."""

from __future__ import annotations

import socket

import pytest

from lab import abuser
from lab.abuser import Clients
from lab.backend import backend, echo, echo_requests, ok
from lab.client import Client, access_lines, at_rest, get, memory, nothing_left, relay
from lab.sidecar import wait_until

COUNT = 100
MB = 1_000_000
FEW = 20


def all_ended(running, behaviour, count=COUNT):
    """Let `count` clients behave so, each doing its one thing in turn, until the sidecar has ended them all."""
    clients = Clients(running.port)
    at_work = [behaviour(clients) for _ in range(count)]

    def go_on(each):
        try:
            return next(each, at_work) is not at_work
        except OSError:
            return False

    def nobody_is_left():
        at_work[:] = [each for each in at_work if go_on(each)]
        with Client(running.port) as client:
            client.send(get(b"/polite"))
            assert client.until(b"GET /polite ")
        return not at_work

    wait_until(nobody_is_left, "the end of each")
    nothing_left(running)
    at_rest(running)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_handshakes_that_come_byte_by_byte(mode):
    script = echo_requests if mode == "http" else echo
    with backend(script) as server, relay(server, f"--mode={mode}", "--handshake-timeout=1s") as running:
        all_ended(running, abuser.slow_handshakes)
        assert not running.said("failed"), "who never came is not worth a word"


def test_heads_that_come_byte_by_byte():
    with backend(echo_requests) as server, relay(server, "--head-timeout=1s") as running:
        all_ended(running, abuser.slow_heads)
        refused = [line for line in access_lines(running, COUNT) if "| 408 |" in line]
        assert len(refused) == COUNT


def stops_in_its_body(clients):
    with clients.tls() as client:
        client.send(abuser.SLOW_BODY)
        for _ in range(FEW):
            client.send(b"x")
            yield
        yield from abuser.stay(client)


def test_bodies_that_come_byte_by_byte_and_stop():
    def answer(peer):
        head = peer.head()
        if head.startswith(b"GET"):
            peer.send(ok(b"GET /polite "))
        peer.rest()

    with backend(answer) as server, relay(server, "--stall-timeout=1s") as running:
        all_ended(running, stops_in_its_body)
        refused = [line for line in access_lines(running, COUNT) if "| 408 |" in line]
        assert len(refused) == COUNT


def says_a_little_and_stops(clients):
    with clients.tls() as client:
        for _ in range(FEW):
            client.send(b"x")
            yield
        yield from abuser.stay(client)


def test_tcp_streams_that_trickle_and_stop():
    with backend(echo) as server, relay(server, "--mode=tcp", "--idle-timeout=1s") as running:
        all_ended(running, says_a_little_and_stops)


def flood(peer):
    """Something for the polite, and without end for all others; in both modes."""
    head = peer.head()
    if b"/bulk" not in head:
        peer.send(ok(b"GET /polite "))
        peer.rest()
        return
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        peer.send(bytes(65536))


def reads_a_byte_now_and_then(clients):
    """Of ciphertext: TCP opens its window again only for more than that."""
    with clients.tls(receive_buffer=4096) as client:
        client.send(get(b"/bulk"))
        for _ in abuser.stay(client):
            yield
            socket.socket.recv(client, 1)


LIMIT = {"http": "--stall-timeout=1s", "tcp": "--idle-timeout=1s"}


@pytest.mark.parametrize("behaviour", [abuser.never_reads, reads_a_byte_now_and_then])
@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_a_large_response_that_is_never_read(mode, behaviour):
    with backend(flood) as server, relay(server, f"--mode={mode}", LIMIT[mode]) as running:
        before = memory(running.pid)
        most = []

        def watched(clients):
            for each in behaviour(clients):
                most.append(memory(running.pid) - before)
                yield each

        all_ended(running, watched, FEW)
        assert max(most) < FEW * MB
        wait_until(lambda: memory(running.pid) - before < FEW * MB / 4, "memory given back")


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_thousands_of_records_of_one_byte(mode):
    """That is no offence: they arrive, others are served meanwhile, and nothing of them stays."""
    count = 5000
    expected = b"1\r\nx\r\n" * count + b"0\r\n\r\n"

    def answer(peer):
        if peer.exactly(1) == b"G":
            peer.head()
            peer.send(ok())
            return
        peer.head()
        server.seen.put(peer.exactly(len(expected)))
        peer.send(ok())

    with backend(answer) as server, relay(server, f"--mode={mode}") as running:
        with Client(running.port) as client:
            client.send(abuser.CHUNKED)
            before = memory(running.pid)
            for at, byte in enumerate(expected):
                client.send(bytes((byte,)))
                if at % 5000 == 0:
                    with Client(running.port) as polite:
                        assert polite.ask(get())[0] == 200
            assert server.sees() == expected
            assert client.answer()[0] == 200
            assert memory(running.pid) - before < 4 * MB
        nothing_left(running)
        at_rest(running)
