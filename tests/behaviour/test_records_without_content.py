"""TLS records that carry nothing buy nothing: no processor time, no memory, and no extension of a time limit."""

from __future__ import annotations

import ssl
import time

import pytest

from lab.backend import backend, echo_requests
from lab.client import Client, get, relay
from lab.sidecar import PATIENCE


def flood(client):
    for _ in range(100):
        client.key_updates(100)
    client.recv()


def test_a_flood_of_key_updates_is_cut_off():
    with (
        backend(echo_requests) as server,
        relay(server) as running,
        Client(running.port) as hostile,
        Client(running.port) as other,
    ):
        assert hostile.ask(get())[0] == 200
        hostile.key_updates(100)
        assert hostile.ask(get())[0] == 200, "a few are nothing unusual"
        with pytest.raises((ConnectionError, ssl.SSLError)):
            flood(hostile)
        assert other.ask(get())[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 408),
        (b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n", 504),
    ],
)
def test_they_do_not_extend_a_time_limit(sent, status):
    def answer(peer):
        peer.rest()

    limits = ("--stall-timeout=1s", "--response-timeout=1s")
    with backend(answer) as server, relay(server, *limits) as running, Client(running.port) as client:
        client.send(sent)
        client.raw.settimeout(0.05)
        deadline = time.monotonic() + PATIENCE
        said = b""
        while b"\r\n" not in said:
            assert time.monotonic() < deadline, "never ended"
            try:
                client.key_updates(1)
                said += client.recv()
            except TimeoutError:
                continue
        assert said.split()[1] == b"%d" % status
