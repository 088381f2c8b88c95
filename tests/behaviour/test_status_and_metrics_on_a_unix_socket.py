"""`--admin-addr`: status, metrics and readiness for whoever may open a file, and for nobody on the network."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys

import pytest

from lab.admin import ask, converse, metrics, status
from lab.backend import backend, echo_requests
from lab.certificates import make
from lab.client import Client, at_rest, nothing_left, open_files, post, relay
from lab.sidecar import SERVING, environment, free_port, hello_backend, refused, served_certificate, sidecar, wait_until


@pytest.fixture
def admin(tmp_path):
    return tmp_path / "admin.sock"


@pytest.mark.parametrize("workers", [1, 2])
def test_it_tells_what_is_served_and_counts_over_all_workers(tmp_path, admin, workers):
    pem = make("localhost", "www")
    cert, key = pem.write(tmp_path)
    flags = f"--cert={cert}", f"--key={key}", f"--workers={workers}", f"--admin-addr=unix:{admin}"
    with backend(echo_requests) as server, relay(server, *flags) as running:
        clients = [Client(running.port) for _ in range(8)]
        for client in clients:
            client.ask(post(b"x"))
        with socket.create_connection(("127.0.0.1", running.port)) as raw:
            raw.sendall(b"this is no TLS, and no HTTP\r\n\r\n" * 10)
            while raw.recv(4096):
                pass
        told = wait_until(lambda: (now := status(admin))["connections"]["open"] == 8 and now, "the failed one is gone")
        samples = metrics(admin)
        for client in clients:
            client.close()

    assert told["phase"] == "serving"
    assert told["ready"] is True
    assert told["frontend"] == f"127.0.0.1:{running.port}"
    assert told["connections"] == {"open": 8, "accepted": 9}
    assert told["requests"] == 8
    assert told["handshakes_failed"] == 1
    assert told["denied"] == dict.fromkeys(told["denied"], 0) != {}
    certificate = told["certificate"]
    assert certificate["source"] == "files"
    assert certificate["names"] == ["localhost", "www"]
    assert int(certificate["serial"], 16) == pem.serial
    assert re.fullmatch(r"[0-9a-f]{64}", certificate["sha256"])
    assert (certificate["failing"], certificate["renewal_failures"]) == ("", 0)
    assert samples["sslterm_connections_open"] == 8
    assert samples["sslterm_connections_accepted_total"] == 9
    assert samples["sslterm_requests_total"] == 8
    assert samples["sslterm_handshakes_failed_total"] == 1
    assert samples["sslterm_certificate_renewal_failing"] == 0
    assert samples["sslterm_certificate_renewal_failures_total"] == 0
    assert samples['sslterm_denied_total{reason="not-allowed"}'] == 0
    end = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", cert],
                         capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert certificate["not_after"] == end.strip().partition("=")[2].replace(" ", "T", 1)
    assert not admin.exists(), "no file is left"


def test_a_reload_that_fails_shows_until_one_succeeds(tmp_path, admin):
    cert, key = make("localhost").write(tmp_path)
    with sidecar(
        f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{free_port()}", f"--admin-addr=unix:{admin}"
    ) as running:
        good = cert.read_bytes()
        cert.write_bytes(b"")
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate not reloaded")
        failing, samples = status(admin)["certificate"], metrics(admin)
        cert.write_bytes(good)
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate unchanged")

        assert "cert.pem: the file is empty" in failing["failing"]
        assert samples["sslterm_certificate_renewal_failing"] == 1
        assert metrics(admin)["sslterm_certificate_renewal_failing"] == 0
        assert metrics(admin)["sslterm_certificate_renewal_failures_total"] == failing["renewal_failures"] == 1


def test_ready_is_while_it_serves_and_clients_can_believe_it(tmp_path, admin):
    def slow(peer):
        peer.head()
        server.wait()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with backend(slow) as server, relay(server, f"--admin-addr=unix:{admin}", mortal=True) as running:
        assert ask(admin, "/ready") == (200, "ready\n")
        with Client(running.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: status(admin)["connections"]["open"] == 1, "a request")
            running.signal(signal.SIGTERM)
            running.wait_for("finishing what is under way")
            assert ask(admin, "/ready") == (503, "draining\n")
            server.go_on()
            assert client.answer()[0] == 200
        assert running.ended() == 0

    cert, key = make("localhost", begins=-9, ends=-1).write(tmp_path)
    with sidecar(
        f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{free_port()}", f"--admin-addr=unix:{admin}"
    ):
        code, text = ask(admin, "/ready")
        assert code == 503
        assert text.startswith("certificate: expired on ")

    waiting = f"--frontend-addr=127.0.0.1:{free_port()}", f"--admin-addr=unix:{admin}", "--backend-addr=auto"
    with sidecar(*waiting, ready="Certificate: ") as running:
        code, text = ask(admin, "/ready")
        assert (code, text) == (503, "starting\n") or not running.said("waiting for a listener")


def test_only_its_owner_may_ask(admin):
    with sidecar(f"--frontend-addr=127.0.0.1:{free_port()}", f"--admin-addr=unix:{admin}"):
        found = admin.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert [each.name for each in admin.parent.iterdir()] == [admin.name]


def test_a_file_left_behind_is_replaced_and_one_in_use_is_not(admin):
    flags = f"--admin-addr=unix:{admin}", "--hand-over=off"
    with sidecar(*flags, f"--frontend-addr=127.0.0.1:{free_port()}", ready=None) as killed:
        killed.wait_for(SERVING)
        killed.process.kill()
        killed.ended()
    assert admin.exists()
    with sidecar(*flags, f"--frontend-addr=127.0.0.1:{free_port()}"):
        second = refused(*flags, f"--frontend-addr=127.0.0.1:{free_port()}")

        assert second.returncode == 1
        assert len(second.stderr.splitlines()) == 1
        assert f"admin-addr=unix:{admin}: another process listens there" in second.stderr
        assert status(admin)["phase"] == "serving"


def test_what_is_no_socket_is_left_alone(admin):
    admin.write_text("precious")
    result = refused(f"--admin-addr=unix:{admin}", f"--frontend-addr=127.0.0.1:{free_port()}")

    assert result.returncode == 1
    assert f"admin-addr=unix:{admin}: there is something that is not a socket" in result.stderr
    assert admin.read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "reason"), [("/nowhere/at/all.sock", "No such file or directory"), ("/tmp/" + "x" * 120, "too long")]
)
def test_a_place_that_cannot_be_is_one_line(path, reason):
    result = refused(f"--admin-addr=unix:{path}", f"--frontend-addr=127.0.0.1:{free_port()}")

    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "admin-addr=unix:" in result.stderr
    assert reason in result.stderr


def test_a_new_one_takes_over_and_the_old_one_leaves_its_file_alone(admin):
    port = free_port()
    flags = f"--frontend-addr=127.0.0.1:{port}", f"--admin-addr=unix:{admin}", "--hand-over=on"
    with (
        hello_backend() as target,
        sidecar(*flags, f"--backend-addr=127.0.0.1:{target}") as old,
        sidecar(*flags, f"--backend-addr=127.0.0.1:{target}") as new,
    ):
        old.signal(signal.SIGTERM)
        assert old.ended() == 0
        served_certificate(port)
        wait_until(lambda: status(admin)["connections"]["accepted"] >= 1, "the new one answers")
        new.stop()
        assert not admin.exists()


REQUESTS = {
    "a page that is not": (b"GET /key HTTP/1.1\r\n\r\n", b"404"),
    "a change": (b"POST /status HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
    "no HTTP": (b"hello\r\n\r\n", b"400"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "large": (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000, b"431"),
    "a query": (b"GET /ready?x=1 HTTP/1.0\r\n\r\n", b"200"),
}


@pytest.mark.parametrize(("request_", "code"), REQUESTS.values(), ids=REQUESTS.keys())
def test_requests_of_every_kind_are_answered(admin, request_, code):
    with sidecar(f"--frontend-addr=127.0.0.1:{free_port()}", f"--admin-addr=unix:{admin}"):
        assert converse(admin, request_).startswith(b"HTTP/1.1 " + code + b" ")


def test_head_has_no_body(admin):
    with sidecar(f"--frontend-addr=127.0.0.1:{free_port()}", f"--admin-addr=unix:{admin}"):
        assert ask(admin, "/metrics", "HEAD") == (200, "")


def test_who_says_nothing_is_let_go_and_others_are_served_then(admin):
    with hello_backend() as target, relay(target, f"--admin-addr=unix:{admin}") as running:
        silent = [socket.socket(socket.AF_UNIX) for _ in range(12)]
        for each in silent:
            each.connect(str(admin))
        wait_until(lambda: open_files(running.pid) >= running.idle + 8, "as many as are taken at a time")
        assert open_files(running.pid) <= running.idle + 9
        assert ask(admin, "/ready")[0] == 200
        for each in silent:
            each.close()
        nothing_left(running)
        at_rest(running)


@pytest.mark.parametrize("text", ["127.0.0.1:9000", ":9000", "unix:", "unix:/tmp/", "/tmp/x.sock", "tcp:/x"])
def test_another_kind_of_address_is_refused(text):
    command = [sys.executable, "-m", "sslterm", f"--admin-addr={text}"]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)

    assert result.returncode == 2
    assert result.stderr == f"sslterm: --admin-addr={text!r}: expected unix:/path/to.sock or none\n"
