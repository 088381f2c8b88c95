"""Hundreds of conversations in which both sides do as chance has it: no defect, no leak, and others are served."""

from __future__ import annotations

import random
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from lab.backend import backend, ok
from lab.client import Client, at_rest, get, nothing_left, post, relay

BULK = bytes(300_000)
SAYINGS = {
    "client": [
        get(), get() * 3, post(b"hello"), post(BULK), get()[:20], post(b"hello")[:-2], b"\r\n", BULK,
        b"nonsense\r\n\r\n",
        get(b"/", b"Transfer-Encoding: chunked", method=b"PUT"), b"5\r\nhello\r\n", b"0\r\n\r\n",
        get(b"/", b"Connection: close"), get(b"/", b"Connection: Upgrade", b"Upgrade: x"),
        get(b"/", b"Expect: 100-continue", b"Content-Length: 5", method=b"PUT"), b"GET / HTTP/1.0\r\n\r\n",
    ],
    "backend": [
        ok(), ok(BULK), ok()[:-1], ok() + b"extra", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", BULK,
        b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", b"HTTP/1.1 204 x\r\n\r\n", b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
    ],
}  # fmt: skip
BROKEN = (OSError, EOFError, ssl.SSLError, AssertionError)


def converse(peer, chance, side):
    """A few turns of speaking, listening and leaving."""
    peer.raw.settimeout(0.05)
    with suppress(*BROKEN):
        for _ in range(chance.randint(1, 6)):
            match chance.choice(["send", "send", "send", "read", "read", "end", "reset", "close", "all"]):
                case "send":
                    peer.send(chance.choice(SAYINGS[side]))
                case "read":
                    with suppress(TimeoutError):
                        peer.recv()
                case "all":
                    with suppress(TimeoutError):
                        peer.rest()
                case "end":
                    peer.end()
                case "reset":
                    peer.reset()
                    return
                case "close":
                    peer.raw.close()
                    return
    peer.raw.close()


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize("seed", [1, 2])
def test_as_chance_has_it(mode, seed):
    chance = random.Random(seed)
    seeds = (chance.random() for _ in iter(int, 1))
    quiet = []

    def either(peer):
        if quiet:
            peer.head()
            peer.send(ok())
            peer.rest()
        else:
            converse(peer, random.Random(next(seeds)), "backend")

    def call(number):
        with suppress(*BROKEN):
            client = Client(running.port, receive_buffer=chance.choice([0, 4096]))
            converse(client, random.Random(seed * 1000 + number), "client")

    flags = ("--stall-timeout=1s", "--response-timeout=1s", "--idle-timeout=1s", "--head-timeout=1s")
    with backend(either) as server, relay(server, f"--mode={mode}", *flags) as running:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(call, range(250)))
        nothing_left(running)
        at_rest(running)
        quiet.append(True)
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
