"""`--workers 2`: two processes share the work, and are one sidecar in everything that can be seen from outside."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from lab.backend import backend, echo_requests
from lab.certificates import make
from lab.client import Client, access_lines, any_certificate, get, open_files, post, relay
from lab.sidecar import environment, served_certificate, wait_until

FIRST, SECOND = make("localhost", "first"), make("localhost", "second")


def children(pid):
    return sorted(
        int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()
    )


def listens(pid, port):
    """Whether a process holds the socket that listens on `port`: a worker gets it last of all."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    with suppress(FileNotFoundError):  # one of its files was closed while we looked
        return any(str(each.readlink()) in ours for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def workers(running):
    """Their process ids, once both accept connections and the child that makes certificates is gone."""

    def look():
        found = children(running.pid)
        return found if len(found) == 2 and all(listens(pid, running.port) for pid in found) else None

    return wait_until(look, "two workers")


@contextmanager
def two(server, *flags, mortal=False):
    """A sidecar with two workers; at the end neither holds more than it did in the beginning."""
    with relay(server, "--workers=2", *flags, mortal=mortal) as running:
        before = {pid: open_files(pid) for pid in workers(running)}
        yield running
        if not mortal:
            for pid, files in before.items():
                wait_until(lambda pid=pid, files=files: open_files(pid) <= files, "no file left open")


def test_both_get_work():
    with backend(echo_requests) as server, two(server, mortal=True) as running, ExitStack() as clients:
        idle = {pid: open_files(pid) for pid in workers(running)}
        for _ in range(64):
            assert clients.enter_context(Client(running.port)).ask(get())[0] == 200
        share = [open_files(pid) - files for pid, files in idle.items()]

        assert sum(share) == 2 * 64, "a socket to the client and one to the backend each"
        assert min(share) > 0
        clients.close()
        running.signal(signal.SIGTERM)
        assert running.ended() == 0
        assert running.said("Stopped; served 64 requests on 64 connections$")
        assert len(running.access) == 64


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_resumes_on_whichever_worker_it_comes_to_and_on_none_after_a_reload(tmp_path, version):
    cert, key = FIRST.write(tmp_path)
    context = any_certificate()
    context.maximum_version = version

    def resumed(running, session):
        with ExitStack() as clients:  # all open at a time, so that both workers get some
            before = {pid: open_files(pid) for pid in workers(running)}
            answers = set()
            for _ in range(16):
                client = clients.enter_context(Client(running.port, context, session=session))
                client.ask(get())
                answers.add(client.tls.session_reused)
            assert all(open_files(pid) > files for pid, files in before.items())
        return answers

    with backend(echo_requests) as server, two(server, f"--cert={cert}", f"--key={key}") as running:
        with Client(running.port, context) as client:
            client.ask(get())
            session = client.tls.session
        assert resumed(running, session) == {True}
        SECOND.write(tmp_path)
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate reloaded")
        assert resumed(running, session) == {False}
        assert not running.said("WARN|ERROR")


def test_a_reload_is_told_when_every_worker_has_it(tmp_path):
    cert, key = FIRST.write(tmp_path)
    with backend(echo_requests) as server, two(server, f"--cert={cert}", f"--key={key}") as running:
        SECOND.write(tmp_path)
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate reloaded")

        assert {served_certificate(running.port) for _ in range(16)} == {ssl.PEM_cert_to_DER_cert(SECOND.cert.decode())}


def test_a_worker_that_dies_is_told_and_replaced_and_the_other_serves_on(tmp_path):
    cert, key = FIRST.write(tmp_path)
    with (
        backend(echo_requests) as server,
        relay(server, "--workers=2", f"--cert={cert}", f"--key={key}", mortal=True) as running,
        ExitStack() as all_of_them,
    ):
        SECOND.write(tmp_path)
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate reloaded")
        dies, lives = workers(running)
        clients = []
        idle = open_files(dies), open_files(lives)
        while (open_files(dies), open_files(lives)) <= idle or open_files(lives) == idle[1]:
            clients.append(all_of_them.enter_context(Client(running.port)))
            assert clients[-1].ask(get())[0] == 200
        os.kill(dies, signal.SIGKILL)
        line = running.wait_for("worker [12] was killed by SIGKILL, and [0-9]+ connections with it; starting another")[
            0
        ]
        lost = int(re.search("and ([0-9]+) conn", line)[1])
        wait_until(lambda: (found := children(running.pid)) and len(found) == 2 and dies not in found, "another")

        assert sum(alive(client) for client in clients) == len(clients) - lost
        assert {served_certificate(running.port) for _ in range(16)} == {ssl.PEM_cert_to_DER_cert(SECOND.cert.decode())}
        all_of_them.close()
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


def alive(client):
    try:
        return client.ask(get())[0] == 200
    except (OSError, EOFError):
        return False


def test_a_worker_minds_no_signal_that_a_terminal_sends_to_all():
    with backend(echo_requests) as server, two(server) as running:
        pids = workers(running)
        for pid in pids:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(pid, number)
        with ExitStack() as clients:
            for _ in range(8):
                assert clients.enter_context(Client(running.port)).ask(get())[0] == 200
        assert workers(running) == pids


def test_no_worker_outlives_the_first_process():
    with backend(echo_requests) as server, relay(server, "--workers=2", mortal=True) as running:
        pids = workers(running)
        running.signal(signal.SIGKILL)
        assert running.ended() == -signal.SIGKILL
        wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), "the end of both workers")


def test_lines_of_the_access_log_stay_whole():
    """Lines of 2 KiB in batches far above the 4 KiB that a pipe takes in one piece, from both at a time."""
    each, clients = 200, 8

    def ask_much(port, letter):
        with Client(port) as client:
            client.send(get(b"/" + letter * 2000) * each)
            for _ in range(each):
                assert client.answer()[0] == 200

    with backend(echo_requests) as server, two(server) as running:
        threads = [threading.Thread(target=ask_much, args=(running.port, b"%x" % number)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        lines = access_lines(running, each * clients)

    whole = re.compile(r"\S+Z \| 200 \| +[0-9.]+ms \| 127\.0\.0\.1:\d+ \| GET /([0-9a-f])\1{1999} \| \d+")
    assert [line for line in lines if not whole.fullmatch(line)] == []
    assert len(lines) == each * clients


def test_connections_are_limited_together():
    with backend(echo_requests) as server, two(server, "--max-connections=4") as running:
        busy = [Client(running.port) for _ in range(4)]
        for client in busy:
            client.send(post(b"rest")[:-2])
        answers = []

        def ask():
            with Client(running.port) as client:
                answers.append(client.ask(get())[0])

        other = threading.Thread(target=ask)
        other.start()
        assert len(running.wait_for("max-connections=4 reached: new clients wait")) == 1
        assert answers == []
        for client in busy:
            client.send(b"st")
            assert client.answer()[0] == 200
        other.join(30)
        assert answers == [200]
        for client in busy:
            client.close()


def test_an_idle_connection_of_one_worker_makes_room_for_a_client_of_the_other():
    with backend(echo_requests) as server, two(server, "--max-connections=1") as running:
        clients = []
        for _ in range(6):
            clients.append(Client(running.port))
            assert clients[-1].ask(get())[0] == 200
        for client in clients[:-1]:
            assert client.rest() == b"", "closed in order"
        for client in clients:
            client.close()


def test_a_drain_ends_when_both_are_drained():
    def answer(peer):
        peer.head()
        server.seen.put(b"asked")
        server.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        peer.rest()

    with (
        backend(answer) as server,
        two(server, "--drain-timeout=1m", mortal=True) as running,
        ExitStack() as all_of_them,
    ):
        clients = [all_of_them.enter_context(Client(running.port)) for _ in range(8)]
        for client in clients:
            client.send(get())
            assert server.sees() == b"asked"
        running.signal(signal.SIGTERM)
        running.wait_for("SIGTERM: finishing")
        for _ in clients:
            server.go_on()
        for client in clients:
            status, head, _ = client.answer()
            assert status == 200
            assert b"Connection: close" in head
        assert running.ended() == 0
        assert running.said("Stopped; served 8 requests on 8 connections$")


def test_what_is_cut_in_either_is_counted():
    with backend(lambda peer: peer.rest()) as server, two(server, "--drain-timeout=200ms", mortal=True) as running:
        clients = [Client(running.port) for _ in range(8)]
        for client in clients:
            client.send(get())
        wait_until(lambda: server.accepted == 8, "all requests at the backend")
        running.signal(signal.SIGTERM)
        assert running.ended() == 1
        assert running.said("WARN  Stopped; 8 connections were cut in the middle; served 8 requests on 8 connections$")
        for client in clients:
            client.raw.close()


def test_a_second_signal_does_not_wait():
    with backend(lambda peer: peer.rest()) as server, two(server, "--drain-timeout=10m", mortal=True) as running:
        client = Client(running.port)
        client.send(get())
        wait_until(lambda: server.accepted == 1, "the request at the backend")
        for expected in ("SIGTERM: finishing", "SIGTERM again: stopping at once"):
            running.signal(signal.SIGTERM)
            running.wait_for(expected)
        assert running.ended() == 1
        client.raw.close()


def test_a_worker_that_hangs_does_not_keep_the_others_nor_the_end():
    with backend(lambda peer: peer.rest()) as server, two(server, "--drain-timeout=100ms", mortal=True) as running:
        client = Client(running.port)
        client.send(get())
        wait_until(lambda: server.accepted == 1, "the request at the backend")
        for pid in workers(running):
            os.kill(pid, signal.SIGSTOP)
        running.signal(signal.SIGTERM)

        assert running.ended() == 1
        assert running.said("WARN  Stopped; 1 connections were cut in the middle")
        client.raw.close()


def test_a_reload_does_not_wait_for_a_worker_that_died(tmp_path):
    cert, key = FIRST.write(tmp_path)
    flags = f"--cert={cert}", f"--key={key}"
    with backend(echo_requests) as server, relay(server, "--workers=2", *flags, mortal=True) as running:
        for times in range(1, 4):  # until it is replaced, the pause grows
            dies = workers(running)[0]
            os.kill(dies, signal.SIGKILL)
            running.wait_for("was killed by SIGKILL", times)
            (SECOND, FIRST)[times % 2].write(tmp_path)
            running.signal(signal.SIGHUP)
            running.wait_for("Certificate (reloaded|unchanged)", times)
        workers(running)
        expected = ssl.PEM_cert_to_DER_cert((SECOND, FIRST)[times % 2].cert.decode())
        assert {served_certificate(running.port) for _ in range(16)} == {expected}
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


def test_the_probe_is_answered():
    with backend(echo_requests) as server, two(server) as running:
        command = [sys.executable, "-m", "sslterm", "check", f"--frontend-addr=127.0.0.1:{running.port}"]
        for _ in range(4):
            subprocess.run(command, env=environment(), check=True, timeout=30)
