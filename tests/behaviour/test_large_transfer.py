"""256 MiB in each direction, in each framing, arrive as they were sent; memory does not grow with them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading

import pytest

from lab.backend import Peer, backend
from lab.client import Client, get, memory, relay

MIB = 1024 * 1024
BLOCK = os.urandom(MIB)
BLOCKS = 256


def expected():
    digest = hashlib.sha256()
    for _ in range(BLOCKS):
        digest.update(BLOCK)
    return digest.hexdigest()


EXPECTED = expected()


def digest_of(peer: Peer, size: int) -> str:
    digest = hashlib.sha256()
    while size:
        data = peer.recv(min(size, MIB))
        if not data:
            raise EOFError(size)
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def chunked_digest_of(peer: Peer) -> str:
    digest = hashlib.sha256()
    while size := int(peer.until(b"\r\n"), 16):
        while size:
            data = peer.recv(size)
            digest.update(data)
            size -= len(data)
        assert peer.exactly(2) == b"\r\n"
    assert peer.exactly(2) == b"\r\n"
    return digest.hexdigest()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_http_both_ways(framing):
    size = b"Content-Length: %d" % (BLOCKS * MIB) if framing == "length" else b"Transfer-Encoding: chunked"

    def send_body(peer):
        for _ in range(BLOCKS):
            peer.send(BLOCK if framing == "length" else b"%x\r\n" % MIB + BLOCK + b"\r\n")
        if framing == "chunked":
            peer.send(b"0\r\n\r\n")

    def read(peer):
        return digest_of(peer, BLOCKS * MIB) if framing == "length" else chunked_digest_of(peer)

    def answer(peer):
        peer.head()
        assert read(peer) == EXPECTED
        peer.send(b"HTTP/1.1 200 OK\r\n" + size + b"\r\n\r\n")
        send_body(peer)
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        before = memory(running.pid)
        with Client(running.port) as client:
            client.send(get(b"/", size, method=b"PUT"))
            send_body(client)
            assert client.head().startswith(b"HTTP/1.1 200 OK")
            assert read(client) == EXPECTED
        assert memory(running.pid) - before < 24 * MIB


def test_tcp_both_ways_at_once():
    def answer(peer):
        speaker = threading.Thread(target=lambda: [peer.send(BLOCK) for _ in range(BLOCKS)])
        speaker.start()
        assert digest_of(peer, BLOCKS * MIB) == EXPECTED
        speaker.join()

    with backend(answer) as server, relay(server, "--mode=tcp") as running:
        # Two processes: one SSL object must not be read and written by two threads at once.
        client = subprocess.Popen(
            ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{running.port}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with client:
            speaker = threading.Thread(target=lambda: [client.stdin.write(BLOCK) for _ in range(BLOCKS)])
            speaker.start()
            digest = hashlib.sha256()
            for _ in range(BLOCKS):
                digest.update(client.stdout.read(MIB))
            assert digest.hexdigest() == EXPECTED
            speaker.join()


def test_curl_down_and_up(tmp_path):
    """Real servers and clients choose sizes of their own."""
    file = tmp_path / "bulk"
    with file.open("wb") as out:
        for _ in range(BLOCKS):
            out.write(BLOCK)

    def answer(peer):
        head = peer.head()
        if head.startswith(b"PUT"):
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            said = digest_of(peer, BLOCKS * MIB).encode()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + said)
        else:
            peer.send(b"HTTP/1.0 200 OK\r\n\r\n")
            for _ in range(BLOCKS):
                peer.send(BLOCK)
            peer.close()
            return
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        url = f"https://127.0.0.1:{running.port}/"
        got = subprocess.run(["curl", "-ks", "-T", str(file), url], capture_output=True, timeout=60, check=True).stdout
        assert got.decode() == EXPECTED
        with subprocess.Popen(["curl", "-ks", url], stdout=subprocess.PIPE) as curl:
            assert hashlib.file_digest(curl.stdout, "sha256").hexdigest() == EXPECTED
        assert curl.returncode == 0
