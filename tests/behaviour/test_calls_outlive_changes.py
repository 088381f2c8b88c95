"""Calls go on through a drain, a hand-over and a change of authorities, and are there before the target listens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio.from_thread
import pytest

from byfahrer.authority import server as authority_server
from byfahrer.authority.ca import OwnRoot
from byfahrer.authority.ledger import Ledger
from byfahrer.authority.service import Authority
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import Tokens
from byfahrer.reconcile.observe import observe
from lab.admin import metrics, status
from lab.backend import Backend, backend, echo, echo_requests
from lab.calls import CA, CALLER, Program, calling, files, serving
from lab.client import Client, access_lines, get
from lab.memory_engine import MemoryEngine
from lab.namespace import namespace
from lab.private_ca import BOTH, PrivateCa
from lab.sidecar import SERVING, free_port, refused, sidecar, wait_until

STREAK = 100
"""Calls between one event and the next."""
OPEN = "Calling others over TLS: "


def is_echoed(port: int, data: bytes = b"hello") -> bool:
    with suppress(ConnectionResetError), Program(port) as program:
        program.send(data)
        program.end()
        return program.rest() == data
    return False


class Calls:
    """Short calls, one after the other, on several threads, until `stop`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self.made = 0
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]
        for each in self._threads:
            each.start()

    def _call(self) -> None:
        while not self._stopped.is_set():
            try:
                if not is_echoed(self._port):
                    self.lost.append("reset")
            except OSError as error:
                self.lost.append(repr(error))
            self.made += 1

    def go_on(self, count: int = STREAK) -> None:
        before = self.made
        wait_until(lambda: self.made >= before + count, f"{count} more calls")

    def stop(self) -> None:
        self._stopped.set()
        for each in self._threads:
            each.join(30)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_process_takes_over_and_no_call_is_lost(near, far, workers):
    with backend(echo) as server, serving(far, server) as db:
        port, front = free_port(), free_port()
        flags = (
            f"--outbound=:{port}=localhost:{db.port}", *files(near), f"--frontend-addr=127.0.0.1:{front}",
            "--hand-over=on", f"--workers={workers}", "--drain-timeout=1m",
        )  # fmt: skip
        with sidecar(*flags, ready=None) as old:
            old.wait_for(SERVING)
            calls = Calls(port)
            try:
                with Program(port) as kept:
                    kept.send(b"before")
                    assert kept.exactly(6) == b"before"
                    calls.go_on()
                    with sidecar(*flags) as new:
                        calls.go_on()
                        old.signal(signal.SIGTERM)
                        old.wait_for("SIGTERM: finishing")
                        calls.go_on()
                        kept.send(b"after")
                        assert kept.exactly(5) == b"after"
                        kept.end()
                        assert kept.rest() == b""
                        assert old.ended() == 0, old.log
                        calls.go_on()
                        calls.stop()
                        assert not new.said("WARN|ERROR")
            finally:
                calls.stop()
            assert calls.lost == []
            assert not old.said("WARN|ERROR")


@pytest.mark.parametrize("backend_addr", ["127.0.0.1:1", "auto"])
def test_one_whose_target_only_calls_leaves_to_its_successor_too(near, far, backend_addr):
    """Neither has its frontend open, so it is the port for calls that both of them have."""
    with backend(echo) as server, serving(far, server) as db, namespace_of(backend_addr) as before:
        port = free_port()
        flags = (
            f"--outbound=:{port}=localhost:{db.port}", *files(near), f"--frontend-addr=127.0.0.1:{free_port()}",
            f"--backend-addr={backend_addr}", "--hand-over=on",
        )  # fmt: skip
        with sidecar(*flags, before=before, ready=None) as old:
            old.wait_for(OPEN)
            old.signal(signal.SIGUSR2)
            old.wait_for("SIGUSR2: leaving as soon as another sslterm has this port")
            with sidecar(*flags, before=before, ready=OPEN) as new:
                old.wait_for("Another sslterm has this port: finishing what is under way")
                assert old.ended() == 0, old.log
                if not before:
                    assert is_echoed(port)
                assert not new.said("WARN|ERROR")


@contextmanager
def namespace_of(backend_addr):
    """One of its own for `auto`, which would find the tests' listeners here."""
    if backend_addr != "auto":
        yield ()
        return
    with namespace() as private:
        yield private.enter


def test_a_drain_lets_calls_end_and_takes_no_new_ones(near, far):
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port, mortal=True) as web:
        with Program(web.outlet) as program:
            program.send(b"before")
            assert program.exactly(6) == b"before"
            web.signal(signal.SIGTERM)
            web.wait_for("SIGTERM: finishing")
            wait_until(lambda: refuses(web.outlet), "new calls are refused")
            program.send(b"after")
            assert program.exactly(5) == b"after"
            program.end()
            assert program.rest() == b""
        assert web.ended() == 0, web.log


def test_a_drain_has_an_end(near, far):
    with (
        backend(echo) as server,
        serving(far, server) as db,
        calling(near, db.port, "--drain-timeout=1s", mortal=True) as web,
        Program(web.outlet) as program,
    ):
        program.send(b"before")
        assert program.exactly(6) == b"before"
        web.signal(signal.SIGTERM)
        assert program.is_cut()
        assert web.ended() == 1
        assert web.said("1 connections were cut in the middle")


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_the_target_may_call_before_it_listens(near, far, workers):
    back = free_port()
    with backend(echo) as server, serving(far, server) as db:
        port, front = free_port(), free_port()
        flags = (
            f"--outbound=:{port}=localhost:{db.port}", *files(near), f"--frontend-addr=127.0.0.1:{front}",
            f"--backend-addr=127.0.0.1:{back}", f"--workers={workers}",
        )  # fmt: skip
        with sidecar(*flags, ready="Waiting for the backend") as web:
            assert is_echoed(port)
            assert refuses(front)
            target = Backend(echo_requests, back)
            try:
                web.wait_for(SERVING)
                with Client(front) as client:
                    assert client.ask(get())[0] == 200
                assert is_echoed(port)
            finally:
                target.finish()
            web.wait_for("listens no more")
            assert is_echoed(port)


def test_a_worker_that_dies_is_replaced_and_calls_go_on(near, far):
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port, "--workers=2", mortal=True) as web:
        for times in (1, 2, 3):
            assert is_echoed(web.outlet)
            os.kill(worker_of(web), signal.SIGKILL)
            web.wait_for("was killed by SIGKILL", times)
        assert is_echoed(web.outlet)
        web.stop()


def worker_of(running) -> int:
    """One of its processes that have the port for calls."""

    def look() -> int | None:
        inodes = {row[9] for row in listening_rows() if row[1].endswith(f":{running.outlet:04X}")}
        for task in Path(f"/proc/{running.pid}/task").iterdir():
            for pid in (task / "children").read_text().split():
                with suppress(OSError):
                    if any(str(each.readlink())[8:-1] in inodes for each in Path(f"/proc/{pid}/fd").iterdir()):
                        return int(pid)
        return None

    return wait_until(look, "a worker that listens")


def listening_rows() -> list[list[str]]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row for row in rows if row[3] == "0A"]


def test_one_that_still_waits_for_its_backend_ends_in_order(near, far):
    with backend(echo) as server, serving(far, server) as db:
        port = free_port()
        flags = (f"--outbound=:{port}=localhost:{db.port}", *files(near), f"--frontend-addr=127.0.0.1:{free_port()}")
        with sidecar(*flags, "--backend-addr=127.0.0.1:1", ready="Waiting for the backend"):
            assert is_echoed(port)


def test_auto_takes_no_port_of_ours_for_the_targets(near, far):
    with namespace() as private:
        flags = ("--outbound=:5432=localhost:1,:5433=localhost:1", *files(near), "--frontend-addr=:8443")
        with sidecar(*flags, "--backend-addr=auto", before=private.enter, ready=OPEN) as web:
            web.wait_for("backend-addr=auto: waiting for a listener")
            with listening(private, 9090):  # which is the only one, or `auto` would have to choose
                web.wait_for(SERVING + "':8443' for 127.0.0.1:9090")


@contextmanager
def listening(private, port):
    code = f"import socket, sys; s = socket.create_server(('127.0.0.1', {port})); sys.stdin.read()"
    with subprocess.Popen([*private.enter, sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def test_the_audit_finds_no_way_round_tls_in_it(near, tmp_path):
    """Not even for a backend on the very port that is called elsewhere, which shares it with nobody here."""
    admin = tmp_path / "admin.sock"
    with backend(echo) as server, calling(near, server.port, f"--backend-addr=127.0.0.1:{server.port}",
                                          f"--admin-addr=unix:{admin}") as web:  # fmt: skip
        assert status(admin)["bypass"] == []
        assert not web.said("Bypass")


def test_calls_are_counted(near, far, tmp_path):
    admin = tmp_path / "admin.sock"
    with backend(echo) as server, serving(far, server) as db:
        both = f"--outbound=:{(port := free_port())}=localhost:{db.port},:{(dead := free_port())}=localhost:1"
        with calling(near, db.port, f"--admin-addr=unix:{admin}", both) as web:
            assert is_echoed(port)
            assert not is_echoed(dead)
            access_lines(web, 2)
            told = status(admin)["outbound"]
            assert (told["connections"], told["failed"]) == (2, 1)
            assert told["to"] == both.partition("=")[2].replace(":", "127.0.0.1:", 1).replace(
                ",:", ",127.0.0.1:"
            ).split(",")
            found = metrics(admin)
            assert (found["sslterm_outbound_total"], found["sslterm_outbound_failed_total"]) == (2, 1)
            assert found["sslterm_connections_accepted_total"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_an_authority_that_is_removed_is_believed_no_more(near, far, workers):
    other = PrivateCa.made("the next")
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port, f"--workers={workers}") as web:
        assert is_echoed(web.outlet)
        (near / "ca.pem").write_bytes(CA.pem + other.pem)
        web.wait_for("Certificate reloaded", 1)
        assert is_echoed(web.outlet)
        (near / "ca.pem").write_bytes(other.pem)
        web.wait_for("Certificate reloaded", 2)
        assert not is_echoed(web.outlet)
        assert server.accepted == 2
        (near / "ca.pem").write_bytes(CA.pem)
        other.issue("web", usage=BOTH).write(near)
        web.wait_for("Certificate reloaded", 3)
        assert not is_echoed(web.outlet)
        CALLER.write(near)
        web.wait_for("Certificate reloaded", 4)
        assert is_echoed(web.outlet)


def test_a_port_that_is_taken_is_told_like_the_frontends(near):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = refused(f"--outbound=:{port}=db:5432", *files(near), f"--frontend-addr=127.0.0.1:{free_port()}")

    assert result.returncode == 1
    assert f"ERROR outbound=127.0.0.1:{port}=db:5432: already in use in this network namespace" in result.stderr


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("0.0.0.0:5432=db:5432", "LOCAL is loopback, each PORT once"),
        (":5432=db:5432,:5432=other:5432", "LOCAL is loopback, each PORT once"),
        (":8081=db:5432", "another port than 8081, which is that of frontend-addr=:8081"),
    ],
)
def test_what_cannot_be_is_one_line(near, value, why):
    result = refused(f"--outbound={value}", *files(near))

    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "outbound=" in result.stderr
    assert why in result.stderr


def test_without_authorities_it_says_what_to_add():
    result = refused("--outbound=:5432=db:5432")

    assert result.returncode == 2
    assert "outbound='127.0.0.1:5432=db:5432': expected client-ca beside it" in result.stderr


@pytest.mark.parametrize("source", ["the authority's", "its own"])
def test_by_the_certificates_of_byfahrers_authority(near, tmp_path, source):
    """Both ends without a file: `web` calls `db`, whose sidecar wants the SPIFFE ID of the service `web`."""
    engine = MemoryEngine()
    folder = StateFolder(tmp_path / "state")
    authority = Authority(engine, OwnRoot(folder), Tokens.load(folder), Ledger(folder))
    path = tmp_path / "run" / "authority.sock"
    flags, targets = {}, {}
    for name in ("web", "db"):
        target = targets[name] = engine.run(name, {"byfahrer.proxy-image": "sslterm"})
        token = tmp_path / name
        own = engine.run(f"{name}-proxy", {"byfahrer.target": target}, network_mode=f"container:{target}")
        token.write_text(authority.token(target, own))
        flags[name] = [f"--authority={path}", f"--authority-token={token}", f"--frontend-addr=127.0.0.1:{free_port()}"]

    async def look():
        for each in targets.values():
            authority.seen(await observe(engine, each))

    allow = "spiffe://byfahrer.internal/ns/default/svc/web"
    if source == "its own":  # then only the roots are asked for, and the server does not know this certificate
        cert, key = CALLER.write(near)
        flags["web"] += [f"--cert={cert}", f"--key={key}"]
    with anyio.from_thread.start_blocking_portal() as portal, backend(echo) as server:
        portal.call(look)
        served = portal.start_task_soon(authority_server.run, authority, path, str(os.geteuid()))
        wait_until(path.exists, "the authority's socket")
        auth = ["--client-auth=required", f"--allow={allow}"]
        back = f"--backend-addr=127.0.0.1:{server.port}"
        with sidecar(*flags["db"], *auth, "--mode=tcp", back) as db:
            port = free_port()
            with sidecar(*flags["web"], f"--outbound=:{port}=localhost:{db.port}") as web:
                if source == "its own":
                    assert not is_echoed(port)
                    web.wait_for("WARN  outbound=.*TLS: .*alert unknown ca")
                else:
                    assert is_echoed(port)
                    assert f" {allow} | tcp | " in access_lines(db, 1)[0]
                    assert not web.said("WARN|ERROR")
        served.cancel()
