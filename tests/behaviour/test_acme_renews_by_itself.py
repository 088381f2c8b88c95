"""A certificate is renewed in time, by itself; connections that are open notice nothing, failures leave the old one."""

from __future__ import annotations

import http.client
import json
import signal

import pytest

from lab.pebble import pebble, suggesting
from lab.sidecar import PATIENCE, any_certificate, free_port, get, hello_backend, served_certificate, sidecar

ISSUED = r"Certificate reloaded: .*\.json for "
SOON = 12
"""Seconds of life: a third of it is left after eight."""


@pytest.fixture
def addresses(port):
    with hello_backend() as backend:
        yield f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{backend}"


@pytest.mark.parametrize("workers", [1, 2])
def test_before_it_ends_and_no_connection_is_lost(tmp_path, port, addresses, workers):
    with pebble(tmp_path, tls_port=port, http_port=free_port(), validity=SOON) as acme:
        flags = acme.flags(tmp_path / "state", "localhost")
        with sidecar(*addresses, *flags, f"--workers={workers}") as running:
            running.wait_for(ISSUED)
            first = served_certificate(port)
            held = http.client.HTTPSConnection("127.0.0.1", port, context=any_certificate(), timeout=PATIENCE)
            held.request("GET", "/")
            held.getresponse().read()
            own_end = held.sock.getsockname()
            running.wait_for(ISSUED, 2)
            held.request("GET", "/")

            assert held.getresponse().read() == b"hello\n"
            assert held.sock.getsockname() == own_end
            assert served_certificate(port) != first
            assert get(port, acme.trusting()) == "hello\n"
            assert acme.accounts == 1
            assert not running.said("ERROR|WARN")
            held.close()


def test_a_renewal_that_fails_leaves_the_old_one(tmp_path, port, addresses):
    with (
        pebble(tmp_path, tls_port=port, http_port=free_port(), validity=SOON) as acme,
        sidecar(*addresses, *acme.flags(tmp_path / "state", "localhost")) as running,
    ):
        running.wait_for(ISSUED)
        first = served_certificate(port)
        acme.resolve("localhost", "127.0.0.2")  # where nobody listens
        line = running.wait_for("ERROR acme: no certificate for localhost")[0]

        assert "the certificate before stays" in line
        assert served_certificate(port) == first
        assert get(port) == "hello\n"

        acme.resolve("localhost", "127.0.0.1")
        running.signal(signal.SIGHUP)  # mended: no need to wait for the next try
        running.wait_for(ISSUED, 2)

        assert get(port, acme.trusting()) == "hello\n"


def test_when_the_server_suggests_it(tmp_path, port, addresses):
    """ACME Renewal Information: a certificate of a day, to be renewed now."""
    with pebble(tmp_path, tls_port=port, http_port=free_port()) as acme, suggesting(acme, tmp_path) as front:
        flags = [*acme.flags(tmp_path / "state", "localhost"), f"--acme-directory={front.directory}"]
        with sidecar(*addresses, *flags) as running:
            running.wait_for(ISSUED)
            assert len(front.asked) == 1

        with sidecar(*addresses, *flags) as running:
            assert len(front.asked) == 1  # not before the time that the server said

        front.start, front.end = -7200, -3600
        (kept,) = (tmp_path / "state").rglob("localhost-*.json")
        kept.write_text(json.dumps(json.loads(kept.read_text()) | {"ask_at": 0}))  # that time has come
        with sidecar(*addresses, *flags) as running:
            first = served_certificate(port)
            running.wait_for(ISSUED)

            assert served_certificate(port) != first
            assert len(front.asked) == 3  # of the old one, and of the new one, which is not renewed again at once
            assert len(set(front.asked)) == 2
            assert acme.orders == 2
