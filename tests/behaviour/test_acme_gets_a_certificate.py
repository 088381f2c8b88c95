"""A certificate from an ACME server, by either way to prove a name, without anything restarted."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from lab.pebble import pebble
from lab.sidecar import free_port, get, hello_backend, served_certificate, sidecar, wait_until

ISSUED = r"Certificate reloaded: .*\.json for "


@pytest.fixture
def redirect():
    """A port for plain HTTP."""
    return free_port()


@pytest.fixture
def acme(tmp_path, port, redirect):
    """Pebble, that looks for names at a sidecar's two ports."""
    with pebble(tmp_path, tls_port=port, http_port=redirect) as running:
        yield running


@pytest.fixture
def addresses(port):
    """Of a sidecar in front of a backend that says hello."""
    with hello_backend() as backend:
        yield f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{backend}"


def names(der: bytes) -> list[str]:
    extensions = x509.load_der_x509_certificate(der).extensions
    return extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_by_tls_on_the_frontend_itself(acme, port, tmp_path, addresses):
    flags = acme.flags(tmp_path / "state", "localhost")
    with sidecar(*addresses, *flags, "--acme-email=somebody@site.example") as running:
        running.wait_for(ISSUED)

        assert names(served_certificate(port)) == ["localhost"]
        assert get(port, acme.trusting()) == "hello\n"
        assert (acme.accounts, acme.orders) == (1, 1)
        assert not running.said("ERROR|WARN")


def test_by_http_through_the_redirect(acme, port, redirect, tmp_path, addresses):
    flags = acme.flags(tmp_path / "state", "localhost")
    more = "--acme-challenge=http-01", f"--redirect-addr=127.0.0.1:{redirect}"
    with sidecar(*addresses, *flags, *more) as running:
        running.wait_for(ISSUED)

        assert get(port, acme.trusting()) == "hello\n"
        assert not running.said("ERROR|WARN")


@pytest.mark.parametrize("challenge", ["tls-alpn-01", "http-01"])
def test_several_names_in_one(acme, port, redirect, tmp_path, addresses, challenge):
    wanted = ["localhost", "www.site.example", "api.site.example"]
    flags = acme.flags(tmp_path / "state", *wanted)
    more = f"--acme-challenge={challenge}", f"--redirect-addr=127.0.0.1:{redirect}"
    with sidecar(*addresses, *flags, *more) as running:
        running.wait_for(ISSUED)

        assert sorted(names(served_certificate(port))) == sorted(wanted)
        assert acme.orders == 1


def test_with_several_workers(acme, port, tmp_path, addresses):
    """Whichever process the server's check comes to: it knows the answer."""
    flags = acme.flags(tmp_path / "state", "localhost", "a.site.example", "b.site.example", "c.site.example")
    with sidecar(*addresses, *flags, "--workers=2") as running:
        running.wait_for(ISSUED)

        assert [get(port, acme.trusting()) for _ in range(4)] == ["hello\n"] * 4
        assert not running.said("ERROR|WARN")


def test_a_self_signed_one_serves_until_then(tmp_path, port, redirect, addresses):
    with (
        pebble(tmp_path, tls_port=free_port(), http_port=redirect) as elsewhere,
        sidecar(*addresses, *elsewhere.flags(tmp_path / "state", "localhost")) as running,
    ):
        assert names(served_certificate(port)) == ["localhost"]
        assert get(port) == "hello\n"

        running.wait_for("a self-signed one serves until there is")
        running.wait_for("ERROR acme: no certificate for localhost: .*the self-signed one stays")


def test_however_many_nonces_are_refused(tmp_path, port, redirect, addresses):
    fickle = {"PEBBLE_WFE_NONCEREJECT": "50"}
    with (
        pebble(tmp_path, tls_port=port, http_port=redirect, env=fickle) as acme,
        sidecar(*addresses, *acme.flags(tmp_path / "state", "localhost")) as running,
    ):
        running.wait_for(ISSUED)

        assert get(port, acme.trusting()) == "hello\n"
        assert acme.asked("nonce-plz") > 2
        assert not running.said("ERROR|WARN")


def test_a_server_that_takes_its_time(tmp_path, port, redirect, addresses):
    slow = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "3"}
    with (
        pebble(tmp_path, tls_port=port, http_port=redirect, env=slow) as acme,
        sidecar(*addresses, *acme.flags(tmp_path / "state", "localhost")) as running,
    ):
        running.wait_for(ISSUED)

        assert get(port, acme.trusting()) == "hello\n"


def test_nothing_secret_is_said_and_no_library_stays(acme, port, tmp_path, addresses):
    state = tmp_path / "state"
    with sidecar(*addresses, *acme.flags(state, "localhost"), "--log-level=trace") as running:
        running.wait_for(ISSUED)
        pid = running.pid
        mapped = Path(f"/proc/{pid}/maps").read_text()
        tasks = Path(f"/proc/{pid}/task")

        assert "cryptography" not in mapped
        assert "_cffi" not in mapped
        wait_until(lambda: not any((each / "children").read_text() for each in tasks.iterdir()), "no child left")
    kept = "".join(path.read_text() for path in state.rglob("*.json"))
    secrets = [line for line in kept.replace("\\n", "\n").splitlines() if len(line) == 64]
    said = "\n".join(running.log + running.access)

    assert secrets
    assert not [line for line in secrets if line in said]
    assert "PRIVATE" not in said
