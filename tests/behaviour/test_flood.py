"""Under a flood others are served, and when it is over everything is as it was before."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

from lab.backend import Peer, backend, echo_requests
from lab.client import Client, at_rest, get, memory, nothing_left, open_files, relay
from lab.sidecar import wait_until


def test_silent_and_garbage_sockets_do_not_keep_others_from_being_served():
    with backend(echo_requests) as server, relay(server, "--handshake-timeout=1s") as running:
        silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(40)]
        garbage = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
        half = [Client(running.port) for _ in range(20)]
        for each in half:
            each.send(b"GET / HTTP/1.1\r\nX-")
        for number in range(50):
            for each in garbage:
                with suppress(OSError):  # ended already
                    each.send(os.urandom(500))
            with Client(running.port) as client:
                assert client.ask(get(b"/%d" % number))[0] == 200
        for each in silent:
            assert Peer(each).rest() == b"", "its time is over"
        for each in (*silent, *garbage):
            each.close()
        for each in half:
            each.raw.close()
        assert len(running.log) < 60, "a flood of clients is no flood of lines"


def numbers(running):
    """Its open file descriptors."""
    return {int(each.name) for each in Path(f"/proc/{running.pid}/fd").iterdir()}


def test_without_file_descriptors_it_waits_without_spinning_and_recovers():
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as inside:
            assert inside.ask(get())[0] == 200
            free = 3
            before = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
            highest = max(numbers(running))
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (highest + 1 + free, before[1]))
            taken = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(12)]
            running.wait_for("cannot accept connections: Too many open files; trying again")
            at_rest(running)
            assert inside.ask(get(b"/still"))[2] == b"GET /still ", "those inside are served"
            for each in taken:
                each.close()
            with Client(running.port) as client:
                assert client.ask(get())[0] == 200
            nothing_more = open_files(running.pid)
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, before)
            assert nothing_more <= running.idle + 6
        assert len(running.said("cannot accept")) <= 2


def test_without_a_descriptor_for_the_backend_it_is_502_and_no_crash():
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as client:
            before = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
            none = 3  # 0, 1 and 2 are taken; to count what is open would race with files that are read meanwhile
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (none, before[1]))
            assert client.ask(get())[0] == 502
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, before)
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
        running.wait_for("Too many open files")


def test_clients_that_come_and_go_leave_nothing_behind():
    """Closed connections were once kept until their time limit came: 40 KB each, for up to 30 s."""
    with backend(echo_requests) as server, relay(server) as running:

        def churn(count):
            for _ in range(count):
                with Client(running.port) as client:
                    assert client.ask(get())[0] == 200
            nothing_left(running)

        churn(200)
        before = memory(running.pid)
        churn(800)
        assert memory(running.pid) - before < 6_000_000


def test_connections_broken_off_at_every_stage_leave_nothing_behind():
    hello = Client.hello()
    with backend(echo_requests) as server, relay(server) as running:
        for cut in range(0, len(hello), 25):
            peer = Peer(socket.create_connection(("127.0.0.1", running.port)))
            peer.send(hello[:cut] or b"\x16")
            peer.reset() if cut % 2 else peer.close()
        for cut in range(1, 60, 4):
            client = Client(running.port)
            client.send((get() * 2)[:cut])
            client.reset() if cut % 3 else client.raw.close()
        wait_until(lambda: open_files(running.pid) <= running.idle, "all of them gone")
        at_rest(running)
