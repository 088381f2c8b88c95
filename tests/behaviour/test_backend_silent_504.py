"""A backend that does not answer, or not even accept, costs a 504 in time, never a hang."""

from __future__ import annotations

import socket
import threading

import pytest

from lab.backend import backend, ok
from lab.client import Client, get, post, relay
from lab.sidecar import free_port


@pytest.mark.parametrize("request_", [get(), post(b"x" * 10_000)])
def test_no_answer_is_504(request_):
    with backend(lambda peer: peer.rest()) as server, relay(server, "--response-timeout=200ms") as running:
        with Client(running.port) as client:
            assert client.ask(request_)[::2] == (504, b"504 Gateway Timeout\n")
            assert client.rest() == b""
        running.wait_for("the backend did not answer in time")
    assert running.access[0].split(" | ")[1] == "504"


def test_a_head_that_comes_byte_by_byte_is_504():
    def trickle(peer):
        peer.head()
        said = iter(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000)
        while not server.done.is_set():
            peer.send(bytes((next(said),)))
            server.done.wait(0.02)

    with backend(trickle) as server, relay(server, "--response-timeout=500ms") as running:
        server.done = threading.Event()
        with Client(running.port) as client:
            assert client.ask(get())[::2] == (504, b"504 Gateway Timeout\n")
        server.done.set()


def test_a_backend_that_takes_no_body_is_504():
    def take_nothing(peer):
        peer.head()
        server.wait()

    with backend(take_nothing) as server, relay(server, "--response-timeout=300ms") as running:
        with Client(running.port) as client:
            client.tls.write(get(b"/", b"Content-Length: 100000000", method=b"POST"))
            client.raw.settimeout(0.05)
            try:
                while True:
                    client.send(b"x" * 65536)
            except TimeoutError:
                pass  # nobody takes any more
            client.raw.settimeout(30)

            assert client.answer()[0] == 504
        server.go_on()


def test_a_backend_that_does_not_accept_is_504():
    """Its listen queue is full, so that the kernel drops what else comes."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        queue = [socket.create_connection(deaf.getsockname())]
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(deaf.getsockname())
        with relay(deaf.getsockname()[1], "--connect-timeout=200ms") as running, Client(running.port) as client:
            assert client.ask(get())[0] == 504
        for each in (*queue, filler):
            each.close()
    assert "did not accept the connection in time" in running.access[0]


def test_one_silent_backend_connection_does_not_delay_other_clients():
    def answer(peer):
        if b"/slow" in peer.head():
            peer.rest()
        else:
            peer.send(ok())
            peer.rest()

    with backend(answer) as server, relay(server, "--response-timeout=10m") as running:
        slow = Client(running.port)
        slow.send(get(b"/slow"))
        with Client(running.port) as client:
            assert client.ask(get(b"/fast"))[0] == 200
        slow.close()


def test_a_port_that_nobody_has_is_not_waited_for():
    flags = "--connect-timeout=10m", "--listen-when=always"
    with relay(free_port(), *flags) as running, Client(running.port) as client:
        assert client.ask(get())[0] == 502
