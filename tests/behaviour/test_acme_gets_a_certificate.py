"""A certificate from an ACME server, by either way to prove a name, without anything restarted."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from lab.certificates import make
from lab.pebble import pebble
from lab.sidecar import free_port, get, hello_backend, served_certificate, sidecar, wait_until

ISSUED = r"Certificate reloaded: .*\.json for "


@pytest.fixture
def backend():
    with hello_backend() as port:
        yield port


@pytest.fixture
def acme(tmp_path, port):
    with pebble(tmp_path, tls_port=port, http_port=free_port()) as running:
        yield running


def names(der: bytes) -> set[str]:
    from cryptography import x509

    leaf = x509.load_der_x509_certificate(der)
    return set(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName))


def test_by_tls_alpn_on_the_frontend_itself(acme, port, tmp_path, backend):
    flags = acme.flags(tmp_path / "state", "site.example")
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{backend}", *flags) as running:
        running.wait_for(ISSUED)

        assert names(served_certificate(port)) == {"site.example"}
        assert get(port) == "hello\n"
        assert (acme.accounts, acme.orders) == (1, 1)
        assert not running.said("ERROR|WARN")
