"""A sidecar's port does what its backend's does: closed before that listens and after, without a client's 502."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress

import pytest

from lab.admin import ask
from lab.admin import status as admin_status
from lab.backend import Backend, backend, echo, echo_requests, ok
from lab.client import Client, at_rest, get, relay
from lab.sidecar import SERVING, free_port, refused, sidecar, wait_until

WAITING = "Waiting for the backend"
GONE = "listens no more"


def is_open(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def flags(front: int, back: int) -> list[str]:
    return [f"--frontend-addr=127.0.0.1:{front}", f"--backend-addr=127.0.0.1:{back}"]


@pytest.mark.parametrize("extra", [(), ("--workers=2",), ("--hand-over=on",)], ids=["one", "workers", "hand-over"])
def test_it_opens_and_closes_with_the_backend_as_often_as_that_does(extra):
    front, back = free_port(), free_port()
    with sidecar(*flags(front, back), *extra, ready=WAITING) as running:
        assert not is_open(front)
        for times in range(1, 4):
            server = Backend(echo_requests, back)
            running.wait_for(SERVING, times)
            with Client(front) as client:
                assert client.ask(get())[0] == 200
            server.finish()
            running.wait_for(GONE, times)
            wait_until(lambda: not is_open(front), "a closed port")
        assert len(running.said(WAITING)) == 1
        assert not running.said("Connection refused")


@pytest.mark.parametrize("extra", [(), ("--workers=2",)], ids=["one", "workers"])
def test_what_is_under_way_goes_on_and_what_is_not_ends(extra):
    def slow(peer):
        while True:
            if b" /slow " in peer.head():
                server.wait()
            peer.send(ok())

    with backend(slow) as server, relay(server, *extra, mortal=True) as running:
        waiting, idle, silent = Client(running.port), Client(running.port), Client(running.port)
        assert idle.ask(get())[0] == 200
        waiting.send(get(b"/slow"))
        wait_until(lambda: server.accepted == 2, "both at the backend")
        server.stop_listening()
        running.wait_for(GONE)

        assert silent.rest() == b""  # it had asked nothing, and could be served by nobody
        assert idle.ask(get())[0] == 200  # the backend still serves this one
        server.go_on()
        assert waiting.answer()[0] == 200
        for each in (waiting, idle, silent):
            each.close()
        running.stop()


def test_an_idle_client_is_told_when_its_backend_is_gone():
    """As the backend would have done itself: a request that is sent later would find nobody."""

    def once(peer):
        peer.head()
        peer.send(ok())
        server.wait()

    with backend(once) as server, relay(server, mortal=True) as running, Client(running.port) as client:
        assert client.ask(get())[0] == 200
        server.stop_listening()
        running.wait_for(GONE)
        server.go_on()
        assert client.rest() == b""
        running.stop()


def test_it_says_that_it_waits_wherever_it_is_asked(tmp_path):
    front, back = free_port(), free_port()
    where = tmp_path / "admin.sock"
    with sidecar(*flags(front, back), f"--admin-addr=unix:{where}", ready=WAITING) as running:
        status, text = ask(where, "/ready")
        assert (status, text.strip()) == (503, f"waiting: nothing listens on backend-addr=127.0.0.1:{back}")
        assert admin_status(where)["phase"] == "waiting"
        waits = refused("check", *flags(front, back))
        assert waits.returncode == 0
        assert waits.stderr == f"sslterm check: waiting for the backend: nothing listens on 127.0.0.1:{back}\n"

        with backend(echo_requests, back):
            running.wait_for(SERVING)
            assert ask(where, "/ready")[0] == 200
            assert admin_status(where)["phase"] == "serving"
            assert refused("check", *flags(front, back)).stderr == ""
        running.wait_for(GONE)
        assert ask(where, "/ready")[0] == 503


def test_the_redirects_port_is_the_doors_other_half():
    front, back, plain = free_port(), free_port(), free_port()
    with sidecar(*flags(front, back), f"--redirect-addr=127.0.0.1:{plain}", ready=WAITING) as running:
        for times in (1, 2):
            assert not is_open(plain)
            with backend(echo_requests, back):
                running.wait_for(SERVING, times)
                with socket.create_connection(("127.0.0.1", plain)) as raw:
                    raw.sendall(get())
                    assert raw.recv(100).startswith(b"HTTP/1.1 308 ")
            running.wait_for(GONE, times)


def test_always_means_always():
    front, back = free_port(), free_port()
    with sidecar(*flags(front, back), "--listen-when=always"), Client(front) as client:
        assert client.ask(get())[0] == 502


def test_a_backend_elsewhere_cannot_be_watched():
    front = free_port()
    with sidecar(f"--frontend-addr=127.0.0.1:{front}", "--backend-addr=192.0.2.1:80"):
        assert is_open(front)


def test_a_backend_on_an_address_of_this_namespace_can():
    front, back = free_port(), free_port()
    with sidecar(f"--frontend-addr=127.0.0.1:{front}", f"--backend-addr=127.9.9.9:{back}", ready=WAITING) as running:
        with socket.create_server(("127.0.0.1", back)):  # the port, but not the address
            at_rest(running)
            assert not is_open(front)
        with socket.create_server(("0.0.0.0", back)):
            running.wait_for(SERVING)


def test_one_that_waits_does_no_work_and_ends_when_told():
    front, back = free_port(), free_port()
    with sidecar(*flags(front, back), ready=WAITING) as running:
        at_rest(running)
    assert running.said("Stopped; served 0 requests")


def test_a_port_that_was_taken_meanwhile_is_told():
    front, back = free_port(), free_port()
    with sidecar(*flags(front, back), ready=None) as running:
        running.wait_for(WAITING)
        with socket.create_server(("127.0.0.1", front)), socket.create_server(("127.0.0.1", back)):
            assert running.ended() == 1
        assert running.said(f"frontend-addr=127.0.0.1:{front}: already in use in this network namespace")


def test_tcp_streams_outlive_the_listener():
    with backend(echo) as server, relay(server, "--mode=tcp", mortal=True) as running, Client(running.port) as client:
        client.send(b"before")
        assert client.exactly(6) == b"before"
        server.stop_listening()
        running.wait_for(GONE)
        client.send(b"after")
        assert client.exactly(5) == b"after"
        client.close()
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
