"""tcp mode: a protocol in which the server speaks first works, and nothing is ever made of the bytes."""

from __future__ import annotations

import os

from lab.backend import backend
from lab.client import Client, relay


def test_a_greeting_comes_without_a_word_from_the_client():
    def smtp(peer):
        peer.send(b"220 ready\r\n")
        while (line := peer.until(b"\r\n")) != b"QUIT\r\n":
            peer.send(b"250 " + line)
        peer.send(b"221 bye\r\n")

    with backend(smtp) as server, relay(server, "--mode=tcp") as running, Client(running.port) as client:
        assert client.until(b"\n") == b"220 ready\r\n"
        client.send(b"HELO x\r\n")
        assert client.until(b"\n") == b"250 HELO x\r\n"
        client.send(b"GET / HTTP/1.1\r\n")
        assert client.until(b"\n") == b"250 GET / HTTP/1.1\r\n"
        client.send(b"QUIT\r\n")
        assert client.rest() == b"221 bye\r\n"


def test_any_bytes_pass():
    noise = os.urandom(500_000)

    def answer(peer):
        peer.send(noise)
        server.seen.put(peer.exactly(len(noise)))

    with backend(answer) as server, relay(server, "--mode=tcp") as running, Client(running.port) as client:
        assert client.exactly(len(noise)) == noise
        client.send(noise)
        assert server.sees() == noise
