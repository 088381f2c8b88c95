"""A certificate from an authority is replaced in time, and nobody's connection notices."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from lab.admin import metrics, status
from lab.backend import backend, echo_requests
from lab.certificates import make
from lab.client import Client, nothing_left, open_files, post, relay
from lab.namespace import namespace
from lab.sidecar import SERVING, any_certificate, free_port, get, hello_backend, served_certificate, sidecar, wait_until
from lab.stand_in import answer, authority, ok

RENEWED = "Certificate reloaded: authority for "
NOT_RENEWED = "Certificate not renewed, the one in force expires on "
WAITING = "No certificate yet, so nothing is served: "


def believing(standing) -> ssl.SSLContext:
    """A client as it should be: it believes the authority's root, and nobody else."""
    return ssl.create_default_context(cafile=standing.root)


@contextmanager
def serving(target, standing, tmp_path, *flags):
    admin = tmp_path / "admin.sock"
    with relay(target, *standing.flags(), f"--admin-addr=unix:{admin}", *flags) as running:
        running.admin = admin
        yield running


@pytest.fixture
def echo_socket():
    def talk(one):
        for message in one:
            one.send(message)

    with serve(talk, "127.0.0.1", 0, ping_interval=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_websocket_stays_open_through_three_renewals(tmp_path, echo_socket, workers):
    with authority(tmp_path, lifetime=10) as standing:
        standing.renew_in = 2
        with (
            serving(echo_socket, standing, tmp_path, f"--workers={workers}") as running,
            connect(f"wss://localhost:{running.port}/", ssl=believing(standing), ping_interval=None) as held,
        ):
            leaves = {served_certificate(running.port)}
            for number in range(3):
                held.send(f"before {number}")
                running.wait_for(RENEWED, number + 1)
                leaves.add(served_certificate(running.port))
                held.send(f"after {number}")
                assert [held.recv(timeout=30) for _ in range(2)] == [f"before {number}", f"after {number}"]
        assert len(leaves) == 4
        assert len(set(standing.keys)) == len(standing.keys) >= 4, "a key of its own for each certificate"


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_on_old_and_new_connections_lose_nothing(tmp_path, workers):
    with (
        authority(tmp_path, lifetime=10) as standing,
        backend(echo_requests) as server,
    ):
        standing.renew_in = 2
        with serving(server, standing, tmp_path, f"--workers={workers}") as running:
            done, asked = threading.Event(), 0
            with Client(running.port, believing(standing)) as kept:
                renewals = threading.Thread(target=lambda: (running.wait_for(RENEWED, 3), done.set()))
                renewals.start()
                while not done.is_set():
                    asked += 1
                    body = b"%d" % asked
                    with Client(running.port, believing(standing)) as new:
                        for client in (kept, new):
                            code, _, said = client.ask(post(body))
                            assert (code, said) == (200, b"POST / " + body)
                renewals.join()
            seen = wait_until(lambda: (now := status(running.admin))["connections"]["open"] == 0 and now, "all closed")
        assert seen["requests"] == 2 * asked
        assert seen["connections"]["accepted"] == asked + 1
        assert seen["handshakes_failed"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_an_authority_that_is_away_for_more_than_half_a_life_and_comes_back(tmp_path, workers):
    with (
        authority(tmp_path, lifetime=12) as standing,
        hello_backend() as target,
        serving(target, standing, tmp_path, f"--workers={workers}") as running,
    ):
        first = served_certificate(running.port)
        standing.go()
        running.wait_for(NOT_RENEWED)
        failing = status(running.admin)["certificate"]
        running.wait_for(NOT_RENEWED, 2)  # three quarters of its life are over

        assert "nobody answers at the socket (is byfahrer running?)" in failing["failing"]
        assert failing["renewal_failures"] > 0
        assert metrics(running.admin)["sslterm_certificate_renewal_failing"] == 1
        assert served_certificate(running.port) == first
        assert get(running.port, believing(standing)) == "hello\n"

        standing.come_back()
        running.wait_for(RENEWED)

        assert get(running.port, believing(standing)) == "hello\n"
        assert served_certificate(running.port) != first
        assert not running.said("expired on")
        assert [line.split()[1] for line in running.said(NOT_RENEWED)][:2] == ["WARN", "ERROR"]
        assert len(running.said(NOT_RENEWED)) <= 3
        assert metrics(running.admin)["sslterm_certificate_renewal_failing"] == 0
        assert metrics(running.admin)["sslterm_certificate_renewal_failures_total"] >= failing["renewal_failures"]
        wait_until(lambda: standing.statuses[-1:] and not standing.statuses[-1]["failing"], "a status that all is well")


def test_one_that_expires_is_told_once_and_replaced_as_soon_as_can_be(tmp_path):
    with (
        authority(tmp_path, lifetime=3) as standing,
        hello_backend() as target,
        serving(target, standing, tmp_path) as running,
    ):
        standing.go()
        running.wait_for("ERROR Certificate expired on .*, clients will not accept it; not renewed: ")
        assert get(running.port) == "hello\n", "for those who look past it"
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            get(running.port, believing(standing))
        failures = status(running.admin)["certificate"]["renewal_failures"]
        wait_until(lambda: status(running.admin)["certificate"]["renewal_failures"] >= failures + 2, "further tries")
        standing.come_back()
        running.wait_for(RENEWED)

        assert get(running.port, believing(standing)) == "hello\n"
        assert len(running.said("expired on")) == 1


LONG = b"x" * (1024 * 1024 + 1)
ODD = {
    "429": (answer(429, b'{"error": "too often"}'), "refused with 429: too often"),
    "401": (answer(401, b'{"error": "this token was revoked"}'), "refused with 401: this token was revoked"),
    "403": (answer(403, b'{"error": "no name for you"}'), "refused with 403: no name for you"),
    "503": (answer(503, b"<html>"), "refused with 503: no reason"),
    "two lines": (answer(400, b'{"error": "a\\nb\\r\\n\\u0000c"}'), r"refused with 400: a b \\x00c"),
    "garbage": (b"\x00\x01\x02" * 50 + b"\r\n\r\n", "the answer is not HTTP/1.1"),
    "nothing": (b"HTTP/1.1 200 OK\r\n", "the answer broke off within its head"),
    "short": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer has fewer bytes than the 9 it says"),
    "long": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", "the answer has more bytes than the 1 it says"),
    "large": (answer(200, LONG), "the answer has 1048577 bytes, and 1048576 are the most"),
    "endless": (b"HTTP/1.1 200 OK\r\n\r\n" + LONG, "the answer is over 1048576 bytes"),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX: " + LONG[:70000], "the head of the answer is over 16384 bytes"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "has a Transfer-Encoding"),
    "no JSON": (answer(200, b"{"), "the answer is no JSON object"),
    "deep JSON": (answer(200, b"[" * 100000), "the answer is no JSON object"),
    "no chain": (ok({"chain": 1}), "chain holds no certificate"),
    "no certificate": (
        ok({"chain": "-----BEGIN CERTIFICATE-----\nAAAA", "authorities": "-----BEGIN CERTIFICATE-----",
            "lifetime": 9, "renew_in": 3}), ": cut short, an -----END line is missing"),
    "hang": ("hang", r"no answer within \d"),
}  # fmt: skip


@pytest.mark.parametrize(("instead", "reason"), ODD.values(), ids=ODD.keys())
def test_an_odd_answer_is_one_line_and_changes_nothing(tmp_path, instead, reason):
    with authority(tmp_path, lifetime=16) as standing:
        standing.renew_in = 1
        with hello_backend() as target, serving(target, standing, tmp_path) as running:
            before = served_certificate(running.port)
            standing.instead = instead
            assert len(running.wait_for(NOT_RENEWED + ".*: authority.*" + reason)) == 1
            wait_until(lambda: len(standing.tries) >= 3, "another try")

            assert served_certificate(running.port) == before
            assert len(running.said("WARN|ERROR")) == 1

            standing.instead = b""
            running.wait_for(RENEWED)
            assert get(running.port, believing(standing)) == "hello\n"


def test_certificates_that_cannot_be_served_are_not(tmp_path):
    with authority(tmp_path, lifetime=16) as standing:
        standing.renew_in = 1
        with hello_backend() as target, serving(target, standing, tmp_path) as running:
            before = served_certificate(running.port)
            old = json.loads(standing.certificate(_request()).partition(b"\r\n\r\n")[2])
            standing.instead = ok(old)
            running.wait_for("authority: not the key of the first certificate in authority")
            standing.instead = b""
            running.wait_for(RENEWED)
            assert served_certificate(running.port) != before
            standing.lifetime = -10
            running.wait_for("authority: gave a certificate that is expired on ")
            assert get(running.port, believing(standing)) == "hello\n"
            standing.lifetime = 16
            running.wait_for(RENEWED, 2)


def _request() -> bytes:
    from sslterm.certs.child import request

    return request()["request"].encode()


def test_it_is_left_alone_for_as_long_as_it_asks(tmp_path):
    with authority(tmp_path, lifetime=60) as standing:
        standing.renew_in = 1
        with hello_backend() as target, serving(target, standing, tmp_path) as running:
            standing.instead = answer(429, b'{"error": "later"}', b"Retry-After: 4")
            running.wait_for("refused with 429: later")
            wait_until(lambda: len(standing.tries) >= 3, "another try")

            assert standing.tries[2] - standing.tries[1] >= 4
            standing.instead = b""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_authority_is_waited_for_and_only_then_there_is_a_service(tmp_path, workers):
    with authority(tmp_path) as standing, hello_backend() as target:
        standing.go()
        standing.path.unlink()
        port, admin = free_port(), tmp_path / "admin.sock"
        addresses = f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{target}"
        flags = *standing.flags(), *addresses, f"--workers={workers}", f"--admin-addr=unix:{admin}"
        with sidecar(*flags, ready=WAITING) as running:
            wait_until(lambda: status(admin)["certificate"]["renewal_failures"] >= 3, "some tries")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))

            assert status(admin)["phase"] == "starting"
            assert "there is no such socket" in status(admin)["certificate"]["failing"]
            assert len(running.said("WARN|ERROR")) == 1

            standing.come()
            running.wait_for(SERVING)

            assert get(port, believing(standing)) == "hello\n"
            assert status(admin)["certificate"]["failing"] == ""


def test_sigterm_ends_the_wait_at_once(tmp_path):
    with authority(tmp_path) as standing:
        standing.instead = "hang"
        with sidecar(*standing.flags(), f"--frontend-addr=127.0.0.1:{free_port()}", ready=None) as running:
            wait_until(lambda: standing.tries, "a request for a certificate")
            running.signal(signal.SIGTERM)

            assert running.ended() == 0
            assert not running.said("WARN|ERROR|Serving")


TOKENS = {
    "missing": (lambda token: token.unlink(), "No such file or directory"),
    "a directory": (lambda token: (token.unlink(), token.mkdir()), "Is a directory|not a file"),
    "empty": (lambda token: token.write_bytes(b""), "holds no token, which is one line of "),
    "another header": (lambda token: token.write_bytes(b"a\r\nX: y"), "holds no token, which is one line of "),
    "large": (lambda token: token.write_bytes(b"a" * 5000), "holds no token, which is one line of "),
    "somebody else's": (lambda token: token.write_bytes(b"b"), "refused with 401: this token is none of ours"),
}


@pytest.mark.parametrize(("spoil", "reason"), TOKENS.values(), ids=TOKENS.keys())
def test_a_token_that_is_none_is_one_line(tmp_path, spoil, reason):
    with authority(tmp_path) as standing, hello_backend() as target:
        spoil(standing.token)
        flags = *standing.flags(), f"--backend-addr=127.0.0.1:{target}", f"--frontend-addr=127.0.0.1:{free_port()}"
        admin = tmp_path / "admin.sock"
        with sidecar(*flags, f"--admin-addr=unix:{admin}", ready=WAITING) as running:
            wait_until(lambda: status(admin)["certificate"]["renewal_failures"] >= 3, "some tries")

            assert len(running.said("WARN|ERROR")) == 1
            assert re.search(reason, running.said(WAITING)[0])
            assert str(standing.path if "refused" in reason else standing.token) in running.said(WAITING)[0]


def test_the_authority_can_ask_for_a_renewal(tmp_path):
    with (
        authority(tmp_path) as standing,
        hello_backend() as target,
        serving(target, standing, tmp_path) as running,
    ):
        wait_until(lambda: len(standing.statuses) > 1, "a status")
        told = standing.statuses[-1]
        standing.names = ["localhost", "another"]
        standing.renew = True
        running.wait_for(RENEWED + "localhost, another, ")
        wait_until(lambda: standing.statuses[-1]["names"] == ["localhost", "another"], "a status of the new one")

        assert len(standing.keys) == 2
        assert told.keys() == {
            "source", "serial", "sha256", "not_after", "names", "failing", "denied", "connections", "requests",
            "phase", "ready", "fault", "bypass",
        }  # fmt: skip
        assert told["source"] == "authority"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["not_after"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_certificate_of_ones_own_believes_the_authoritys_clients(tmp_path, workers):
    """No client-ca is given: whose clients to believe is the authority's to say, also after it has another root."""
    cert, key = make("localhost").write(tmp_path / "own")
    flags = f"--cert={cert}", f"--key={key}", "--client-auth=required", "--allow=all", f"--workers={workers}"

    def caller():
        made = standing.client()
        context = any_certificate()
        context.load_cert_chain(*made.write(tmp_path / "caller"))
        return context

    def accepted(context) -> bool:
        try:
            return get(running.port, context) == "hello\n"
        except OSError:
            return False

    with authority(tmp_path) as standing, hello_backend() as target:
        standing.go()
        with sidecar(
            *standing.flags(),
            *flags,
            f"--frontend-addr=127.0.0.1:{free_port()}",
            f"--backend-addr=127.0.0.1:{target}",
            f"--admin-addr=unix:{tmp_path / 'admin.sock'}",
            ready="Whom to believe is not known yet, so nothing is served: ",
        ) as running:
            standing.come_back()
            running.wait_for(SERVING)
            old = caller()
            assert accepted(old)
            assert not accepted(any_certificate())

            standing.rotate()
            running.wait_for("Certificate reloaded: ")
            assert accepted(caller())
            assert not accepted(old)

            standing.go()
            running.wait_for("Status not delivered: ")
            assert accepted(caller()), "those from before stay"
            assert standing.keys == [], "no certificate was asked for"
            assert {each["source"] for each in standing.statuses} == {"files"}
            assert len(running.said("(WARN|ERROR) +(?! |denied )")) == 1, running.log
            told = metrics(tmp_path / "admin.sock")
            assert told['sslterm_denied_total{reason="no-certificate"}'] == 1
            assert told['sslterm_denied_total{reason="bad-certificate"}'] == 1


def test_an_address_that_comes_or_goes_brings_a_new_one(tmp_path, port):
    """A container that joins or leaves another network."""
    with (
        authority(tmp_path) as standing,
        namespace() as private,
        sidecar(f"--frontend-addr=:{port}", *standing.flags(), before=private.enter) as running,
    ):
        private.run("ip", "address", "add", "198.51.100.7/24", "dev", "lo")
        private.run("ip", "address", "add", "2001:db8::7/64", "dev", "lo", "nodad")
        running.wait_for(RENEWED)
        private.run("ip", "address", "del", "198.51.100.7/24", "dev", "lo")
        running.wait_for(RENEWED, 2)


def test_sighup_fetches_another_or_says_why_not(tmp_path):
    with (
        authority(tmp_path) as standing,
        hello_backend() as target,
        serving(target, standing, tmp_path) as running,
    ):
        running.signal(signal.SIGHUP)
        running.wait_for(RENEWED)
        standing.instead = answer(403, b'{"error": "gone"}')
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate not reloaded, the one before stays in force: authority .* refused with 403: gone")

        assert len(standing.keys) == 2
        assert "gone" in status(running.admin)["certificate"]["failing"]
        assert get(running.port, believing(standing)) == "hello\n"


def private_keys(pid: int) -> set[bytes]:
    """Lines of every private key in a process's memory that is text."""
    found: set[bytes] = set()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw") and "[v" not in line:
                begin, end = (int(each, 16) for each in span.split("-"))
                memory.seek(begin)
                for text in re.findall(
                    rb"BEGIN PRIVATE KEY-----(?:\n|\\n)([A-Za-z0-9+/=\\\n]{40,400})", memory.read(end - begin)
                ):
                    found.update(each for each in re.split(rb"\n|\\n", text) if len(each) > 30)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_neither_key_nor_token_is_in_any_log_status_metric_or_error(tmp_path, workers):
    secret = tmp_path / "secret"
    secret.mkdir()
    with authority(secret, lifetime=16) as standing, backend(echo_requests) as server:
        standing.renew_in = 1
        token = standing.token.read_text().strip()
        flags = "--log-level=trace", f"--workers={workers}"
        with serving(server, standing, tmp_path, *flags) as running:
            with Client(running.port) as client:
                client.ask(post(b"x"))
            echoed = json.dumps({"error": f"what is {token} and {running.pid}"}).encode()
            shown = []
            for number, instead in enumerate((answer(401, echoed), answer(403, token.encode()), token.encode()), 1):
                standing.instead = instead
                running.wait_for(NOT_RENEWED, number)
                shown += [str(status(running.admin)), str(metrics(running.admin))]
                standing.instead = b""
                running.wait_for(RENEWED, number)
            keys = private_keys(running.pid)
            told = [str(each) for each in standing.statuses]
            environment = Path(f"/proc/{running.pid}/environ").read_text()
            command = Path(f"/proc/{running.pid}/cmdline").read_text()
        written = [each.read_bytes() for each in tmp_path.rglob("*") if each.is_file() and each != standing.token]
        everything = "\n".join(
            [*running.log, *running.access, *shown, *told, environment, command, *(str(each) for each in written)]
        )
        sent = b"\n".join(standing.heads).decode()

        assert keys, "this test would see a key"
        assert token in sent, "this test would see a token"
        assert "what is … and" in everything
        assert token not in everything
        assert not [key for key in keys if key.decode() in everything + sent]
        assert "PRIVATE KEY" not in everything


def test_nothing_piles_up_with_renewals(tmp_path):
    with authority(tmp_path, lifetime=10) as standing, hello_backend() as target:
        standing.renew_in = 1
        with serving(target, standing, tmp_path) as running:
            running.wait_for(RENEWED)
            nothing_left(running)
            before = open_files(running.pid)
            running.wait_for(RENEWED, 5)
            wait_until(lambda: open_files(running.pid) <= before, "no more files than before")


def test_it_is_renewed_while_a_backend_is_waited_for(tmp_path):
    """`auto` may wait for a target for days; whoever comes first must not meet a certificate that has expired."""
    with authority(tmp_path, lifetime=60) as standing, namespace() as private:
        standing.renew_in = 1
        port = free_port()
        flags = f"--frontend-addr=127.0.0.1:{port}", "--backend-addr=auto", "--log-level=debug"
        with sidecar(*standing.flags(), *flags, before=private.enter, ready="waiting for a listener") as running:
            running.wait_for(RENEWED, 2)
            wait_until(lambda: standing.statuses, "a status")
