"""Whoever speaks plain HTTP to the TLS port is told so; whoever speaks neither gets an alert or nothing."""

from __future__ import annotations

import socket
import subprocess

import pytest

from lab.backend import Peer, backend, echo_requests
from lab.client import Client, get, relay


@pytest.fixture(scope="module")
def running():
    with backend(echo_requests) as server, relay(server) as each:
        yield each


def dial(running):
    return Peer(socket.create_connection(("127.0.0.1", running.port)))


def test_curl_shows_what_is_wrong(running):
    said = subprocess.run(
        ["curl", "-si", f"http://127.0.0.1:{running.port}/"], capture_output=True, timeout=30, check=True
    ).stdout

    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"use https" in said
    assert b"\x15\x03" not in said, "no alert in between"
    running.wait_for("TLS handshake with 127.0.0.1 failed: the client speaks plain HTTP")


@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n" * 4, b"\x16\x03\x01\x00\x05hello", b"\x00" * 600])
def test_garbage_is_ended(running, said):
    peer = dial(running)
    peer.send(said)
    with peer.raw:
        assert len(peer.rest()) < 100


def test_a_probe_that_says_nothing_is_not_worth_a_word(running):
    before = len(running.log)
    dial(running).close()
    dial(running).reset()
    with Client(running.port) as client:
        assert client.ask(get())[0] == 200
    assert running.log[before:] == []
