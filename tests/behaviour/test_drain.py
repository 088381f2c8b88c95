"""SIGTERM: transfers finish whole, who is here is answered, new ones are refused; the exit code says if any was cut."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from lab.backend import backend, echo, echo_requests, ok, read_body
from lab.client import Client, get, post, relay
from lab.sidecar import wait_until

BULK = os.urandom(8 * 1024 * 1024)
DIGEST = hashlib.sha256(BULK).digest()


def drain(running):
    running.signal(signal.SIGTERM)
    running.wait_for("SIGTERM: finishing")
    wait_until(lambda: refuses(running.port), "new connections are refused")


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_five_transfers_of_8_mib_each_way_finish_whole(mode):
    def answer(peer):
        if mode == "http":
            assert hashlib.sha256(read_body(peer, peer.head())).digest() == DIGEST
            peer.send(ok(BULK))
        else:
            assert hashlib.sha256(peer.exactly(len(BULK))).digest() == DIGEST
            peer.send(BULK)
            peer.end()
        peer.rest()

    with backend(answer) as server, relay(server, f"--mode={mode}", "--drain-timeout=1m", mortal=True) as running:
        half_way = threading.Barrier(6, timeout=30)
        go_on = threading.Barrier(6, timeout=30)
        digests = []

        def transfer():
            with Client(running.port) as client:
                sent = post(BULK) if mode == "http" else BULK
                client.send(sent[: len(sent) // 2])
                half_way.wait()
                go_on.wait()
                client.send(sent[len(sent) // 2 :])
                body = client.answer()[2] if mode == "http" else client.rest()
                digests.append(hashlib.sha256(body).digest())

        threads = [threading.Thread(target=transfer) for _ in range(5)]
        for each in threads:
            each.start()
        half_way.wait()
        drain(running)
        go_on.wait()
        for each in threads:
            each.join(60)

        assert digests == [DIGEST] * 5
        assert running.ended() == 0
        assert len(running.access) == 5


def test_keep_alive_ends_with_the_request_under_way():
    def answer(peer):
        peer.head()
        server.seen.put(b"asked")
        server.wait()
        peer.send(ok())
        peer.rest()

    with backend(answer) as server, relay(server, "--drain-timeout=1m", mortal=True) as running:
        with Client(running.port) as busy, Client(running.port) as idle:
            busy.send(get() + get(b"/sent-ahead"))
            assert server.sees() == b"asked"
            drain(running)
            assert idle.rest() == b"", "closed in order"
            server.go_on()
            status, head, _ = busy.answer()
            assert status == 200
            assert b"Connection: close" in head
            assert busy.rest() == b"", "what was sent ahead is not begun any more"
        assert running.ended() == 0
        assert server.accepted == 1


def test_who_waits_in_the_queue_is_still_answered():
    with backend(echo_requests) as server, relay(server, "--drain-timeout=1m", mortal=True) as running:
        running.signal(signal.SIGSTOP)
        answers = []

        def ask():
            with Client(running.port) as client:
                answers.append(client.ask(get())[0])

        clients = [threading.Thread(target=ask) for _ in range(100)]
        for each in clients:
            each.start()
        wait_until(lambda: queued(running.port) == len(clients), "all clients in the queue")
        running.signal(signal.SIGTERM)
        running.signal(signal.SIGCONT)
        for each in clients:
            each.join(60)

        assert answers == [200] * len(clients)
        assert running.ended() == 0


def queued(port):
    """Connections that wait for the listener's `accept`: what the kernel shows as its receive queue."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A")


def test_a_request_that_is_on_its_way_to_an_idle_connection_is_answered():
    with backend(echo_requests) as server, relay(server, "--drain-timeout=1m", mortal=True) as running:
        with Client(running.port) as used, Client(running.port) as fresh:
            assert used.ask(get())[0] == 200
            running.signal(signal.SIGTERM)
            running.wait_for("SIGTERM: finishing")
            for client in (used, fresh):
                client.send(get())
            for client in (used, fresh):
                status, head, _ = client.answer()
                assert status == 200
                assert b"Connection: close" in head
                assert client.rest() == b"", "closed in order"
        assert running.ended() == 0


def test_a_client_who_was_not_told_of_the_end_may_ask_once_more():
    def answer(peer):
        peer.head()
        peer.send(ok(b"whole")[:-2])
        server.wait()
        peer.send(b"le")
        echo_requests(peer)

    with backend(answer) as server, relay(server, "--drain-timeout=1m", mortal=True) as running:
        with Client(running.port) as client:
            client.send(get())
            head = client.head()
            assert b"Connection: close" not in head
            drain(running)
            server.go_on()
            assert client.exactly(5) == b"whole"
            status, head, _ = client.ask(get())
            assert status == 200
            assert b"Connection: close" in head
            assert client.rest() == b""
        assert running.ended() == 0


def test_what_only_holds_a_socket_does_not_delay_the_end_nor_spoil_the_code():
    with backend(echo_requests) as server, relay(server, "--drain-timeout=10m", mortal=True) as running:
        silent = socket.create_connection(("127.0.0.1", running.port))
        with Client(running.port) as idle:
            assert idle.ask(get())[0] == 200
            finished = Client(running.port)
            assert finished.ask(get(b"/", b"Connection: close"))[0] == 200
            assert finished.rest() == b""
            drain(running)
            assert idle.rest() == b""
        assert running.ended() == 0
        silent.close()
        finished.raw.close()


def test_what_is_cut_spoils_the_code_and_has_its_line():
    with backend(echo) as server, relay(server, "--mode=tcp", "--drain-timeout=200ms", mortal=True) as running:
        client = Client(running.port)
        client.send(b"hello")
        assert client.exactly(5) == b"hello"
        running.signal(signal.SIGTERM)

        assert running.ended() == 1
        assert client.is_cut()
        client.raw.close()
        assert running.said("1 connections were cut in the middle")
        assert re.search(r"\| tcp \| 5/5 \| stopped$", running.access[0])


def test_a_response_whose_head_is_gone_still_ends_whole():
    def answer(peer):
        peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        server.wait()
        peer.send(b"4\r\nrest\r\n0\r\n\r\n")
        peer.rest()

    with backend(answer) as server, relay(server, "--drain-timeout=1m", mortal=True) as running:
        with Client(running.port) as client:
            client.send(get())
            client.until(b"half")
            drain(running)
            server.go_on()
            assert client.until(b"0\r\n\r\n").endswith(b"4\r\nrest\r\n0\r\n\r\n")
            assert client.rest() == b""
        assert running.ended() == 0
