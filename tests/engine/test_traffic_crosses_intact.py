"""What a client and a target say to each other through an injected sidecar arrives as it was sent."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl

from websockets.sync.client import connect

from lab.engine import fetch
from lab.waiting import wait_until

GIBIBYTE = 1 << 30

DOWNLOAD = """
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
BLOCK = bytes(range(256)) * 4096
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        for number in range((1 << 30) // len(BLOCK)):
            self.wfile.write(number.to_bytes(8) + BLOCK[8:])
ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""

WEBSOCKET_ECHO = """
import base64, hashlib, socket, threading
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
def serve(peer):
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += peer.recv(65536)
    lines = head.split(b"\\r\\n")
    key = next(l[18:].strip() for l in lines if l.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                 b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    file = peer.makefile("rb")
    while True:
        first, second = file.read(2)
        size = second & 127
        if size >= 126:
            size = int.from_bytes(file.read(2 if size == 126 else 8))
        mask = file.read(4)
        data = file.read(size)
        data = (int.from_bytes(data) ^ int.from_bytes((mask * (size // 4 + 1))[:size])).to_bytes(size) if size else b""
        head = bytes([first]) + (bytes([size]) if size < 126 else b"\\x7e" + size.to_bytes(2) if size < 65536
                                 else b"\\x7f" + size.to_bytes(8))
        peer.sendall(head + data)
        if first & 15 == 8:
            peer.close()
            return
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

SERVER_FIRST = """
import socket, threading
def serve(peer):
    peer.sendall(b"220 ready\\r\\n")
    for line in peer.makefile("rb"):
        peer.sendall(line.upper())
    peer.sendall(b"bye\\r\\n")
    peer.close()
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def program(lab, source, **labels):
    """A target that runs a Python program on its loopback port 8080, which nobody reaches but the sidecar."""
    settings = {f"byfahrer.{name}": value for name, value in labels.items()}
    return lab.run(entrypoint=["/usr/bin/python3", "-c", source], labels=settings)


def untrusting():
    return ssl._create_unverified_context()


def answers_tls(address):
    try:
        with socket.create_connection((address, 8081), 5) as raw, untrusting().wrap_socket(raw):
            return True
    except OSError:
        return False


def test_a_download_of_one_gibibyte(lab, injector):
    injector().is_ready()
    www = program(lab, DOWNLOAD)
    wait_until(lambda: answers_tls(lab.address(www)), 20)
    connection = http.client.HTTPSConnection(lab.address(www), 8081, timeout=30, context=untrusting())
    connection.request("GET", "/")
    response = connection.getresponse()
    arrived, size = hashlib.sha256(), 0
    while data := response.read(1 << 20):
        arrived.update(data)
        size += len(data)
    connection.close()

    sent, block = hashlib.sha256(), bytes(range(256)) * 4096
    for number in range(GIBIBYTE // len(block)):
        sent.update(number.to_bytes(8, "big") + block[8:])
    assert size == GIBIBYTE
    assert arrived.hexdigest() == sent.hexdigest()


def test_a_websocket(lab, injector):
    injector().is_ready()
    www = program(lab, WEBSOCKET_ECHO)
    address = lab.address(www)
    wait_until(lambda: answers_tls(address), 20)
    with connect(f"wss://{address}:8081/", ssl=untrusting(), max_size=None, ping_interval=None) as websocket:
        for size in (0, 1, 125, 126, 65_535, 65_536, 1 << 20):
            message = bytes(i & 255 for i in range(size))
            websocket.send(message)
            assert websocket.recv(30) == message
        websocket.send("still open")
        assert websocket.recv(30) == "still open"


def test_a_protocol_in_which_the_server_speaks_first(lab, injector):
    injector().is_ready()
    www = program(lab, SERVER_FIRST, mode="tcp")
    address = lab.address(www)
    wait_until(lambda: answers_tls(address), 20)
    with (
        socket.create_connection((address, 8081), 10) as raw,
        untrusting().wrap_socket(raw) as tls,
        tls.makefile("rwb", buffering=0) as lines,
    ):
        assert lines.readline() == b"220 ready\r\n"
        lines.write(b"noop\r\n")
        assert lines.readline() == b"NOOP\r\n"


def test_the_target_is_told_who_called(lab, injector):
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    status, body = fetch(lab.address(www), "/headers")

    assert status == 200
    assert '["X-Forwarded-Proto", "https"]' in body
