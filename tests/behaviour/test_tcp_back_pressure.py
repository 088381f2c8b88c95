"""A side that does not read stops the other one: memory stays bounded, nothing is lost, and others are served."""

from __future__ import annotations

import hashlib

import pytest

from lab.backend import backend, echo_requests, ok
from lab.client import Client, at_rest, get, memory, relay

MIB = 1024 * 1024
PIECE = bytes(range(256)) * 256
MOST = 24 * MIB
"""More than one connection may take of the process's memory, and much less than what is sent."""


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_a_client_that_does_not_read_stops_the_backend(mode):
    size = 200 * MIB

    def flood(peer):
        if mode == "http":
            peer.head()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = memoryview(PIECE * (size // len(PIECE)))
        digest = hashlib.sha256(left).hexdigest()
        peer.send(left)
        server.seen.put(digest.encode())

    with backend(flood) as server, relay(server, f"--mode={mode}") as running:
        before = memory(running.pid)
        client = Client(running.port)
        if mode == "http":
            client.send(get())
            client.head()
        assert client.recv()
        at_rest(running)
        assert memory(running.pid) - before < MOST
        client.raw.close()
    assert server.seen.empty(), "the backend could not send it all"


def test_a_backend_that_does_not_read_stops_the_client():
    digest = hashlib.sha256()

    def slow(peer):
        server.wait()
        while data := peer.recv(MIB):
            digest.update(data)

    with backend(slow) as server, relay(server, "--mode=tcp") as running:
        before = memory(running.pid)
        with Client(running.port) as client:
            sent = 0
            client.raw.settimeout(0.5)
            try:
                while sent < 3000:
                    client.tls.write(PIECE)
                    sent += 1
                    client._flush()
            except TimeoutError:
                pass
            assert sent < 3000, "200 MiB would have been taken"
            assert memory(running.pid) - before < MOST
        assert sent
        server.go_on()


def test_what_was_held_back_arrives_whole_once_it_is_read():
    size = 64 * MIB

    def flood(peer):
        peer.send(PIECE * (size // len(PIECE)))

    with backend(flood) as server, relay(server, "--mode=tcp") as running:
        with Client(running.port, receive_buffer=8192) as client:
            total, digest = 0, hashlib.sha256()
            while data := client.recv():
                total += len(data)
                digest.update(data)

        assert total == size
        assert digest.digest() == hashlib.sha256(PIECE * (size // len(PIECE))).digest()


def test_others_are_served_meanwhile():
    def answer(peer):
        if b"/bulk" in (head := peer.head()):
            peer.send(ok(bytes(100 * MIB)))
        else:
            peer.send(ok(head[:9]))
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        greedy = [Client(running.port) for _ in range(5)]
        for each in greedy:
            each.send(get(b"/bulk"))
            each.head()
        for _ in range(20):
            with Client(running.port) as client:
                assert client.ask(get(b"/other"))[2] == b"GET /othe"
        assert memory(running.pid) < 60 * MIB + 5 * MOST
        for each in greedy:
            each.raw.close()


def test_requests_sent_ahead_by_a_client_that_does_not_read_are_not_hoarded():
    with backend(echo_requests) as server, relay(server) as running:
        before = memory(running.pid)
        client = Client(running.port, receive_buffer=4096)
        client.raw.settimeout(0.5)
        try:
            for _ in range(3000):
                client.send(get(b"/" + b"x" * 1000) * 64)
        except TimeoutError:
            pass
        assert memory(running.pid) - before < MOST
        client.raw.close()
