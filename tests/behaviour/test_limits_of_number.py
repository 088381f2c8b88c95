"""At `--max-connections` idle clients make room for new ones, and where none is idle the new ones wait."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from lab.backend import backend, echo_requests
from lab.client import Client, at_rest, get, open_files, post, relay
from lab.sidecar import SERVING, wait_until
from sslterm.relay.listener import bind
from sslterm.settings import Address


def test_the_longest_idle_makes_room():
    with backend(echo_requests) as server, relay(server, "--max-connections=3") as running:
        idle = [Client(running.port) for _ in range(3)]
        for each in (idle[1], idle[0], idle[2]):
            assert each.ask(get())[0] == 200
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
            assert idle[1].recv() == b"", "closed in order"
            assert idle[0].ask(get())[0] == idle[2].ask(get())[0] == 200
        for each in idle:
            each.close()


def test_those_from_before_the_port_was_shut_make_room_too():
    """They count as much as any other, although the socket that accepted them is gone."""
    with backend(echo_requests) as server, relay(server, "--max-connections=2") as running:
        idle = [Client(running.port) for _ in range(2)]
        for each in idle:
            assert each.ask(get())[0] == 200
        server.stop_listening()
        running.wait_for("listens no more")
        with backend(echo_requests, server.port):
            running.wait_for(SERVING, 2)
            with Client(running.port) as client:
                assert client.ask(get())[0] == 200
                assert idle[0].recv() == b"", "closed in order"
                assert idle[1].ask(get())[0] == 200
        for each in idle:
            each.close()


def test_the_next_client_waits_for_room():
    with backend(echo_requests) as server, relay(server, "--max-connections=3") as running:
        first = [Client(running.port) for _ in range(3)]
        for each in first:
            each.send(post(b"rest")[:-2])
        answers = []

        def ask():
            with Client(running.port) as client:
                answers.append(client.ask(get())[0])

        others = [threading.Thread(target=ask) for _ in range(5)]
        for each in others:
            each.start()
        assert "new clients wait" in running.wait_for("max-connections=3 reached")[0]
        at_rest(running)
        assert answers == []
        assert open_files(running.pid) <= running.idle + 6
        for each in first:
            each.send(b"st")
            assert each.answer()[0] == 200, "those inside are served"
        for each in others:
            each.join(30)
        assert answers == [200] * 5, "one place was enough for all of them in turn"
        for each in first:
            each.close()
        assert len(running.said("max-connections")) == 1


def test_silent_clients_do_not_hold_their_places_for_ever():
    with (
        backend(echo_requests) as server,
        relay(server, "--max-connections=2", "--handshake-timeout=300ms") as running,
    ):
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(2)]
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
        for each in silent:
            each.close()


def test_clients_that_trickle_a_body_do_not_keep_others_out():
    """Each byte begins the time limit of a body anew: only where others wait is that too slow."""
    with (
        backend(echo_requests) as server,
        relay(server, "--max-connections=3", "--stall-timeout=1s") as running,
    ):
        slow = [Client(running.port) for _ in range(3)]
        for each in slow:
            each.send(post(b"x" * 100_000)[:200])
        over = threading.Event()

        def trickle(client):
            with suppress(OSError):
                while not over.wait(0.1):
                    client.send(b"x")

        writers = [threading.Thread(target=trickle, args=(each,)) for each in slow]
        for each in writers:
            each.start()
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
        over.set()
        for each in writers:
            each.join(30)
        wait_until(lambda: [line for line in running.access if "too slow" in line], "the line of the one that was cut")
        for each in slow:
            each.raw.close()


def test_accepted_sockets_keep_alive_and_send_at_once():
    """They take it over from the listening socket."""
    with bind(Address("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        with listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
