"""Without files there is a certificate all the same, and it is right for every name that this namespace has."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess

import pytest

from lab.namespace import namespace
from lab.sidecar import free_port, get, served_certificate, sidecar, wait_until


@pytest.fixture
def leaf(port, tmp_path):
    with sidecar(f"--frontend-addr=:{port}") as running:
        assert running.said("No certificate given: making a self-signed one")
        assert running.said("Certificate: self-signed for localhost, ")
        path = tmp_path / "leaf.pem"
        path.write_text(ssl.DER_cert_to_PEM_cert(served_certificate(port)))
        yield path


def own_addresses() -> list[str]:
    """Those by which others can call this machine, as iproute2 has them."""
    command = ["ip", "-oneline", "address", "show", "scope", "global"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[3].partition("/")[0] for line in lines]


def test_openssl_accepts_it_for_every_name_and_no_other(leaf):
    def verdict(kind, name):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", leaf, kind, name, leaf]
        return subprocess.run(command, capture_output=True, check=False).returncode

    hostname = ["-verify_hostname", socket.gethostname()]
    good = [
        ["-verify_hostname", "localhost"],
        hostname,
        *(["-verify_ip", a] for a in ("127.0.0.1", "::1", *own_addresses())),
    ]

    assert [verdict(*each) for each in good] == [0] * len(good)
    assert verdict("-verify_hostname", "example.org") != 0
    assert verdict("-verify_ip", "192.0.2.99") != 0


def test_it_is_a_servers_certificate_on_p_256(leaf):
    command = ["openssl", "x509", "-in", leaf, "-noout", "-text"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "prime256v1" in shown
    assert "TLS Web Server Authentication" in shown
    assert "CA:FALSE" in shown


def test_a_client_that_was_given_it_verifies_name_and_all(leaf, port):
    client = ssl.create_default_context(cafile=leaf)
    for name in ("localhost", "127.0.0.1", socket.gethostname()):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as raw,
            client.wrap_socket(raw, server_hostname=name) as tls,
        ):
            assert tls.version() == "TLSv1.3"
    with (
        sidecar(f"--frontend-addr=:{free_port()}") as stranger,
        pytest.raises(ssl.SSLCertVerificationError, match="self-signed"),
    ):
        get(stranger.port, client)


def test_sighup_makes_a_new_one(port):
    with sidecar(f"--frontend-addr=127.0.0.1:{port}") as running:
        before = served_certificate(port)
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate reloaded: self-signed")

        assert served_certificate(port) != before


def test_an_address_that_comes_later_is_named_too(port):
    """A container that joins another network."""
    with namespace() as private, sidecar(f"--frontend-addr=:{port}", before=private.enter) as running:
        assert not running.said("198.51.100.7")
        private.run("ip", "address", "add", "198.51.100.7/24", "dev", "lo")
        private.run("ip", "address", "add", "2001:db8::7/64", "dev", "lo", "nodad")
        running.wait_for("Certificate reloaded: self-signed")
        address = ("-verify_ip", "198.51.100.7")

        def verified() -> bool:
            shown = private.run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *address)
            return "Verification error: self-signed certificate" in shown

        assert wait_until(verified, "a certificate that fails for no other reason than being self-signed")
