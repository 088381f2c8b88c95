"""A WebSocket crosses the sidecar whole: large frames both ways, pings, close codes, and what was sent ahead."""

from __future__ import annotations

import hashlib
import os

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from lab.backend import backend
from lab.client import Client, get, relay
from lab.sidecar import any_certificate, wait_until

UPGRADE = get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.fixture
def echo_server():
    """A WebSocket server in this process: echoes, or closes with the code that it is sent."""
    import threading

    def talk(socket):
        for message in socket:
            if isinstance(message, str) and message.startswith("close "):
                socket.close(int(message[6:]), "as asked")
            else:
                socket.send(message)

    with serve(talk, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def test_frames_pings_and_close_codes(echo_server):
    with relay(echo_server) as running:

        def dial():
            return connect(
                f"wss://127.0.0.1:{running.port}/ws", ssl=any_certificate(), max_size=None, ping_interval=None
            )

        with dial() as socket:
            for size in (0, 1, 125, 65536, 1024 * 1024):
                message = os.urandom(size)
                socket.send(message)
                assert hashlib.sha256(socket.recv(timeout=30)).digest() == hashlib.sha256(message).digest()
            for number in range(20):
                socket.send(bytes([number]) * 1024 * 1024)
            for number in range(20):
                assert socket.recv(timeout=30) == bytes([number]) * 1024 * 1024
            assert socket.ping().wait(30)
            socket.send("text too: é")
            assert socket.recv(timeout=30) == "text too: é"
        for code in (1000, 1001, 4321):
            with dial() as socket:
                socket.send(f"close {code}")
                with pytest.raises(ConnectionClosed) as closed:
                    socket.recv(timeout=30)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as asked")
        wait_until(lambda: len(running.access) == 4, "a line for each")
        assert all("| 101 |" in line and "GET /ws" in line for line in running.access), running.access


def test_what_is_sent_ahead_of_the_101_arrives_after_it():
    def answer(peer):
        peer.head()
        peer.send(SWITCH + b"hello")
        server.seen.put(peer.exactly(5))
        peer.send(b"bye")

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(UPGRADE + b"early")

        assert server.sees() == b"early"
        assert client.head().startswith(b"HTTP/1.1 101 ")
        assert client.rest() == b"hellobye"


def test_each_direction_ends_on_its_own():
    def answer(peer):
        peer.head()
        peer.send(SWITCH)
        server.seen.put(peer.rest())
        peer.send(b"x" * 1_000_000)

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(UPGRADE)
        client.head()
        client.send(b"last words")
        client.end()

        assert server.sees() == b"last words"
        assert client.rest() == b"x" * 1_000_000


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket, h2c", b"TLS/1.3"])
def test_a_second_http_is_never_tunnelled(protocol):
    def answer(peer):
        server.seen.put(peer.head())
        peer.send(SWITCH)

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            settings = b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
            status, _, _ = client.ask(
                get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, settings)
            )

            assert status == 502, "a 101 that nobody asked for"
        seen = server.sees().lower()
        assert b"upgrade" not in seen
        assert b"http2-settings" not in seen
