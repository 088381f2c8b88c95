"""However a backend fails, for many clients at a time: a cut or a 502 or 504, never what looks whole; nothing stays."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.backend import Backend, backend, ok
from lab.client import Client, at_rest, get, nothing_left, relay
from lab.sidecar import wait_until

COUNT = 20
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
LIMITS = ("--response-timeout=1s", "--idle-timeout=1s", "--connect-timeout=1s")
CUT = "cut"


def stalls(peer):
    peer.rest()


def closes(peer):
    peer.close()


def resets(peer):
    peer.reset()


FAILURES = {
    "never answers": (b"", stalls, 504),
    "stalls in the head": (b"HTTP/1.1 200 OK\r\nContent-", stalls, 504),
    "closes in the head": (b"HTTP/1.1 200 OK\r\nContent-", closes, 502),
    "resets in the head": (b"HTTP/1.1 200 OK\r\nContent-", resets, 502),
    "resets at once": (b"", resets, 502),
    "says garbage": (bytes(range(256)) * 20 + b"\r\n\r\n", stalls, 502),
    "says garbage in chunks": (CHUNKED + b"zz\r\nhalf\r\n", stalls, CUT),
    "stalls in a body of known length": (LENGTH, stalls, CUT),
    "stalls in a chunked body": (CHUNKED, stalls, CUT),
    "closes in a body of known length": (LENGTH, closes, CUT),
    "closes in a chunked body": (CHUNKED, closes, CUT),
    "resets in a body of known length": (LENGTH, resets, CUT),
    "resets in a chunked body": (CHUNKED, resets, CUT),
    "resets in a body until the end": (b"HTTP/1.1 200 OK\r\n\r\nhalf", resets, CUT),
}


def outcome(running):
    """What one client makes of it."""
    with Client(running.port) as client:
        client.send(get(b"/failing"))
        try:
            status, _, body = client.answer()
        except (ConnectionError, ssl.SSLEOFError):
            return CUT
        assert status != 200, body
        assert client.rest() == b""
        return status


def in_a_crowd(running, look):
    """What each of many clients at a time gets; afterwards the sidecar is at rest and holds nothing."""
    with ThreadPoolExecutor(COUNT) as pool:
        outcomes = set(pool.map(look, [running] * COUNT))
    nothing_left(running)
    at_rest(running)
    return outcomes


def polite(running):
    with Client(running.port) as client:
        assert client.ask(get(b"/polite"))[0] == 200


def fails(said, then):
    """A script: does so, but answers the polite."""

    def script(peer):
        if b"/polite" in peer.head():
            peer.send(ok())
            peer.rest()
            return
        peer.send(said)
        then(peer)

    return script


@pytest.mark.parametrize("failure", FAILURES)
def test_in_http_mode(failure):
    said, then, expected = FAILURES[failure]
    with backend(fails(said, then)) as server, relay(server, *LIMITS) as running:
        assert in_a_crowd(running, outcome) == {expected}
        polite(running)


@pytest.mark.parametrize("failure", ["stalls", "resets"])
def test_in_tcp_mode(failure):
    """There is no status there: what is not ended in order is cut."""
    then = {"stalls": stalls, "resets": resets}[failure]
    with backend(fails(b"half", then)) as server, relay(server, "--mode=tcp", *LIMITS) as running:

        def cut(running):
            with Client(running.port) as client:
                client.send(get(b"/failing"))
                return client.is_cut()

        assert in_a_crowd(running, cut) == {True}
        polite(running)


@pytest.mark.parametrize(("mode", "expected"), [("http", 504), ("tcp", CUT)])
def test_a_full_listen_queue(mode, expected):
    """The kernel drops what else comes; once the backend accepts again, all is well."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        queue = [socket.create_connection(address), socket.socket()]
        queue[1].setblocking(False)
        queue[1].connect_ex(address)
        with relay(address[1], f"--mode={mode}", "--listen-when=always", *LIMITS) as running:
            assert in_a_crowd(running, outcome) == {expected}
            for each in queue:
                each.close()
            deaf.close()
            back = wait_until(lambda: Backend(fails(b"", closes), address[1]), "its port")
            polite(running)
            back.finish()
