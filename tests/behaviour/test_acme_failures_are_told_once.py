"""What an ACME server refuses is told in its own words, once, and tried again within its limits."""

from __future__ import annotations

import json
import signal
import time

import pytest

from lab.pebble import pebble
from lab.sidecar import free_port, get, served_certificate, sidecar, wait_until

ISSUED = r"Certificate reloaded: .*\.json for "
FAILED = "ERROR acme: no certificate for localhost"


@pytest.fixture
def acme(tmp_path, port):
    with pebble(tmp_path, tls_port=port, http_port=free_port()) as running:
        yield running


def test_a_name_that_leads_elsewhere(acme, port, tmp_path):
    acme.resolve("localhost", "127.0.0.2")
    flags = acme.flags(tmp_path / "state", "localhost", "site.example")
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags) as running:
        line = running.wait_for(FAILED)[0]

        assert "localhost: urn:ietf:params:acme:error:" in line
        assert "127.0.0.2" in line
        assert "trying again in 60 s" in line
        assert "site.example: urn" not in line

        running.signal(signal.SIGHUP)
        line = running.wait_for("WARN  acme: failed for the same reason, 2 times now")[0]

        assert "trying again in 2 min" in line
        assert len(running.said("ERROR")) == 1

        acme.resolve("localhost", "127.0.0.1")
        running.signal(signal.SIGHUP)
        running.wait_for(ISSUED)

        assert acme.accounts == 1


def test_whoever_asks_in_vain_cannot_break_the_limit(acme, port, tmp_path):
    """Five failures in an hour are counted over restarts and SIGHUP alike."""
    acme.resolve("localhost", "127.0.0.2")
    flags = f"--frontend-addr=127.0.0.1:{port}", *acme.flags(tmp_path / "state", "localhost")
    for _ in range(5):
        with sidecar(*flags) as running:
            line = running.wait_for(FAILED)[0]
    assert "trying again in 60 min" in line

    with sidecar(*flags) as running:
        served_certificate(port)
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate unchanged")

        assert not running.said(FAILED)
    assert acme.orders == 5
    (failures,) = (tmp_path / "state").rglob("*.failures")
    assert all(time.time() - 600 < each <= time.time() for each in json.loads(failures.read_text()))


def test_a_server_that_is_away(tmp_path, port):
    with pebble(tmp_path, tls_port=port, http_port=free_port()) as acme:
        flags = acme.flags(tmp_path / "state", "localhost")
    at = acme.port
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags) as running:
        line = running.wait_for(FAILED)[0]

        assert f"https://127.0.0.1:{at}/dir: Connection refused" in line

        with pebble(tmp_path, tls_port=port, http_port=free_port(), listen=at) as back:
            running.signal(signal.SIGHUP)
            running.wait_for(ISSUED)

            assert get(port, back.trusting()) or running.said(ISSUED)


def test_a_server_that_is_not_trusted(acme, port, tmp_path):
    flags = [each for each in acme.flags(tmp_path / "state", "localhost") if not each.startswith("--acme-ca")]
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags) as running:
        line = running.wait_for(FAILED)[0]

        assert "its certificate is not trusted: self" in line
        assert "(acme-ca names the authorities of a private server)" in line


def test_something_that_is_no_acme_server(acme, port, tmp_path):
    flags = [*acme.flags(tmp_path / "state", "localhost"), f"--acme-directory=https://127.0.0.1:{acme.port}/nothing"]
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags) as running:
        line = running.wait_for(FAILED)[0]

        assert f"https://127.0.0.1:{acme.port}/nothing" in line
        assert "Traceback" not in line


def test_the_end_does_not_wait_for_an_order(tmp_path, port):
    slow = {"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "60"}
    with pebble(tmp_path, tls_port=port, http_port=free_port(), env=slow) as acme:
        flags = acme.flags(tmp_path / "state", "localhost")
        with sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags) as running:
            wait_until(lambda: acme.asked("chalZ"), "it has answered the challenge")
            running.signal(signal.SIGHUP)  # does not begin the order anew
            running.wait_for("Certificate unchanged")
        assert acme.orders == 1
