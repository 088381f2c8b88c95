"""tcp mode: each direction ends on its own, for TLS 1.2 and 1.3, whichever side is first."""

from __future__ import annotations

import ssl
import subprocess

import pytest

from lab.backend import backend, echo
from lab.client import Client, access_lines, relay
from lab.sidecar import any_certificate


def only(version):
    context = any_certificate()
    context.minimum_version = context.maximum_version = version
    return context


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
BULK = b"0123456789abcdef" * 65536


@VERSIONS
def test_after_the_client_has_ended_it_still_gets_everything(version):
    def answer(peer):
        server.seen.put(peer.rest())
        peer.send(BULK)

    with backend(answer) as server, relay(server, "--mode=tcp") as running:
        with Client(running.port, only(version)) as client:
            client.send(b"a question")
            client.end()

            assert server.sees() == b"a question"
            assert client.rest() == BULK
        line = access_lines(running, 1)[0]
        assert f"| tcp | 10/{len(BULK)}" in line
        assert line.split(" | ")[1] == "  -"


@VERSIONS
def test_after_the_backend_has_ended_it_still_gets_everything(version):
    def answer(peer):
        peer.send(b"a question")
        peer.end()
        server.seen.put(peer.rest())

    with (
        backend(answer) as server,
        relay(server, "--mode=tcp") as running,
        Client(running.port, only(version)) as client,
    ):
        assert client.rest() == b"a question"
        client.send(BULK)
        client.end()

        assert server.sees() == BULK


def test_bytes_and_end_in_one_piece_arrive():
    with backend(echo) as server, relay(server, "--mode=tcp") as running:
        for size in (0, 1, 70_000, 300_000):
            with Client(running.port) as client:
                client.send(b"x" * size)
                client.end()
                assert client.rest() == b"x" * size


def test_openssl_s_client_gets_its_echo():
    with backend(echo) as server, relay(server, "--mode=tcp") as running, subprocess.Popen(
        ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{running.port}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"hello\n"
        client.kill()
