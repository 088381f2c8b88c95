"""SIGTERM finishes what is under way and ends with 0; a second one does not wait; before there is anything, at once."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.namespace import namespace
from lab.sidecar import any_certificate, hello_backend, sidecar, wait_until


class SlowBackend:
    """Takes one request and answers when told to."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.close()
        if self.connection is not None:
            self.connection.close()

    def take_request(self):
        self.connection = self.server.accept()[0]
        assert self.connection.recv(65536).startswith(b"GET /")

    def answer(self):
        self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")


@contextmanager
def busy(port, drain_timeout):
    """A sidecar with one request that its backend has and has not answered: sidecar, backend, client."""
    with (
        SlowBackend() as backend,
        sidecar(
            f"--frontend-addr=127.0.0.1:{port}",
            f"--backend-addr=127.0.0.1:{backend.port}",
            f"--drain-timeout={drain_timeout}",
            ready=None,
        ) as running,
    ):
        running.wait_for("Serving")
        with any_certificate().wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            backend.take_request()
            yield running, backend, client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_request_under_way_is_finished_and_the_code_is_0(port, number):
    with busy(port, "1m") as (running, backend, client):
        running.signal(number)
        running.wait_for(f"{number.name}: finishing what is under way, for up to 60 s")
        running.signal(signal.SIGHUP)  # ignored from now on
        with pytest.raises(ConnectionRefusedError):
            wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close(), "a closed port")
        backend.answer()
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk

        assert answer.endswith(b"done")
        assert running.ended() == 0
        assert running.said("Stopped; served 1 requests on [0-9]+ connections$")
        assert not running.said("unchanged|reloaded|unexpected")


def test_the_deadline_cuts_and_the_code_is_1(port):
    with busy(port, "100ms") as (running, _, _):
        running.signal(signal.SIGTERM)

        assert running.ended() == 1
        assert running.said("WARN  Stopped; 1 connections were cut in the middle")


def test_a_second_signal_does_not_wait(port):
    with busy(port, "10m") as (running, _, _):
        running.signal(signal.SIGTERM)
        running.wait_for("SIGTERM: finishing")
        running.signal(signal.SIGTERM)

        assert running.ended() == 1
        assert running.said("SIGTERM again: stopping at once")


def test_a_connection_that_only_waits_does_not_delay_the_end(port):
    with (
        hello_backend() as backend,
        sidecar(
            f"--frontend-addr=127.0.0.1:{port}",
            f"--backend-addr=127.0.0.1:{backend}",
            "--drain-timeout=10m",
            ready=None,
        ) as running,
    ):
        running.wait_for("Serving")
        client = any_certificate().wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=30))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(65536)
        running.signal(signal.SIGTERM)

        assert running.ended() == 0
        client.close()


def test_the_wait_for_a_backend_ends_at_once(port):
    with (
        namespace() as private,
        sidecar(
            f"--frontend-addr=127.0.0.1:{port}", "--backend-addr=auto", before=private.enter, ready=None
        ) as running,
    ):
        running.wait_for("waiting for a listener")
        running.signal(signal.SIGTERM)

        assert running.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_first_process_of_a_container_it_ends_too(port, number):
    """PID 1 has no default signal actions: what it does not handle does not happen."""
    first = "unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--pid", "--fork", "--kill-child"
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", before=first, ready=None) as running:
        running.wait_for("Serving")
        child = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[0]
        os.kill(int(child), number)

        assert running.ended() == 0
        assert running.said("Stopped; served 0 requests on 0 connections$")
