"""Clients show a certificate of an authority that is believed now: its file reloads, no session outlives a change."""

from __future__ import annotations

import signal
import ssl
import subprocess
import sys
from contextlib import contextmanager

import pytest

from lab.backend import backend, echo_requests
from lab.certificates import make
from lab.client import Client, get
from lab.handshake import client_with
from lab.private_ca import CLIENT, PrivateCa
from lab.sidecar import PATIENCE, SERVING, Sidecar, environment, free_port, refused, sidecar, wait_until

OLD_CA, NEW_CA = PrivateCa.made("old"), PrivateCa.made("new")
OLD, NEW = OLD_CA.issue("old laptop", usage=CLIENT), NEW_CA.issue("new laptop", usage=CLIENT)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
RELOADED = "Certificate reloaded: "


@pytest.fixture
def ca(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(OLD_CA.pem)
    return path


@contextmanager
def serving(ca, *flags, kind="required"):
    cert, key = make("localhost").write(ca.parent)
    with (
        backend(echo_requests) as server,
        sidecar(
            f"--cert={cert}", f"--key={key}", f"--client-ca={ca}", f"--client-auth={kind}", "--allow=all",
            f"--frontend-addr=127.0.0.1:{free_port()}", f"--backend-addr=127.0.0.1:{server.port}", *flags,
        ) as running,
    ):  # fmt: skip
        yield running


def answered(running, context, session=None):
    """Whether a request is answered; if so, whether the session was resumed, and the session that comes after it."""
    try:
        with Client(running.port, context, session=session) as client:
            status = client.ask(get())[0]
            return status == 200, client.tls.session_reused, client.tls.session
    except (OSError, EOFError):
        return False, False, None


def is_answered(running, context):
    return answered(running, context)[0]


@pytest.mark.parametrize("kind", ["optional", "required"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_of_the_authority_is_served_and_another_is_not(ca, tmp_path, kind, version):
    with serving(ca, kind=kind) as running:
        assert is_answered(running, client_with(OLD, tmp_path, version))
        assert not is_answered(running, client_with(NEW, tmp_path, version))
        assert is_answered(running, client_with(version=version)) == (kind == "optional")


def test_curl_with_its_certificate(ca, tmp_path):
    with serving(ca) as running:
        cert, key = OLD.write(tmp_path / "client")
        curl = ["curl", "--silent", "--insecure", f"https://127.0.0.1:{running.port}/"]
        with_it = subprocess.run([*curl, "--cert", cert, "--key", key], capture_output=True, timeout=PATIENCE)
        without = subprocess.run(curl, capture_output=True, timeout=PATIENCE)

        assert with_it.returncode == 0
        assert without.returncode != 0


def test_the_probe_needs_no_certificate(ca):
    """It asks whether TLS is answered, and may not read the target's keys."""
    with serving(ca) as running:
        assert refused("check", f"--frontend-addr=127.0.0.1:{running.port}").returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_session_ends_with_the_authority_of_its_client(ca, tmp_path, version, workers):
    client = client_with(OLD, tmp_path, version)
    with serving(ca, f"--workers={workers}") as running:
        _, _, session = answered(running, client)
        assert answered(running, client, session)[:2] == (True, True)
        ca.write_bytes(OLD_CA.pem + NEW_CA.pem)
        running.wait_for(RELOADED, 1)
        assert is_answered(running, client_with(NEW, tmp_path, version))
        answer, resumed, session = answered(running, client_with(OLD, tmp_path, version))
        assert (answer, resumed) == (True, False)

        client = client_with(OLD, tmp_path, version)
        _, _, session = answered(running, client)
        assert answered(running, client, session)[:2] == (True, True)
        ca.write_bytes(NEW_CA.pem)
        running.wait_for(RELOADED, 2)
        for _ in range(8 * workers):
            assert answered(running, client, session)[:2] == (False, False)
        assert is_answered(running, client_with(NEW, tmp_path, version))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_keeps_the_authorities_before_and_is_told(ca, tmp_path, workers):
    with serving(ca, f"--workers={workers}") as running:
        ca.write_bytes(NEW_CA.pem[:100])
        line = running.wait_for("ERROR")[0]
        assert f"Certificate not reloaded, the one before stays in force: {ca}: cut short" in line
        assert is_answered(running, client_with(OLD, tmp_path))
        assert not is_answered(running, client_with(NEW, tmp_path))
        ca.write_bytes(NEW_CA.pem)
        running.wait_for(RELOADED)
        assert is_answered(running, client_with(NEW, tmp_path))
        assert not is_answered(running, client_with(OLD, tmp_path))


def test_an_authority_goes_out_of_force_even_while_the_certificate_is_broken(ca, tmp_path):
    with serving(ca) as running:
        (tmp_path / "cert.pem").write_bytes(b"")
        ca.write_bytes(NEW_CA.pem)
        running.signal(signal.SIGHUP)
        running.wait_for(RELOADED)
        assert len(running.wait_for("ERROR.*Not taken up: .*/cert.pem: the file is empty")) == 1
        assert is_answered(running, client_with(NEW, tmp_path))
        assert not is_answered(running, client_with(OLD, tmp_path))


def test_a_connection_that_is_open_outlives_a_change(ca, tmp_path):
    with serving(ca) as running, Client(running.port, client_with(OLD, tmp_path)) as client:
        assert client.ask(get())[0] == 200
        ca.write_bytes(NEW_CA.pem)
        running.wait_for(RELOADED)
        assert client.ask(get())[0] == 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty, so that no client's certificate could be believed"), (None, "no such file"), (b"x", "not PEM")],
    ids=["empty", "missing", "text"],
)
@pytest.mark.parametrize("files", [True, False], ids=["files", "self-signed"])
def test_a_start_without_authorities_is_refused_with_one_line(ca, tmp_path, content, reason, files):
    ca.unlink() if content is None else ca.write_bytes(content)
    cert, key = make("localhost").write(tmp_path)
    given = [f"--cert={cert}", f"--key={key}"] if files else []
    result = refused(
        *given, f"--client-ca={ca}", "--client-auth=required", "--allow=all", f"--frontend-addr=127.0.0.1:{free_port()}"
    )

    assert result.returncode == 2
    assert f"client-ca: {ca}: {reason}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_of_tickets_rotate_though_nothing_changed(workers):
    """With the twelve hours made two seconds."""
    code = (
        "import sys; from sslterm.__main__ import main\n"
        "from sslterm.certs import tickets; tickets.ROTATION = 2.0\n"
        "sys.exit(main())"
    )
    with backend(echo_requests) as server:
        flags = [
            f"--workers={workers}", f"--frontend-addr=127.0.0.1:{free_port()}",
            f"--backend-addr=127.0.0.1:{server.port}",
        ]  # fmt: skip
        running = Sidecar([sys.executable, "-c", code, *flags], environment())
        try:
            running.wait_for(SERVING)
            client = client_with()
            _, _, session = answered(running, client)
            wait_until(lambda: answered(running, client, session)[:2] == (True, False), "a session not resumed")
            for _ in range(8 * workers):
                assert answered(running, client, session)[0]
            running.stop()
        finally:
            if running.process.poll() is None:
                running.process.kill()
            running.ended()
