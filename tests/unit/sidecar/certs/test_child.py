"""What the child makes, read by the library that made it; OpenSSL's opinion is asked in behaviour/."""

from __future__ import annotations

import datetime as dt
import io
import ipaddress
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sslterm.certs import child

MADE = child.make("www", ["localhost", "www"], ["127.0.0.1", "fd00::2"], 90)
CERT = x509.load_pem_x509_certificate(MADE["chain"].encode())


def extension(kind):
    return CERT.extensions.get_extension_for_class(kind).value


def test_names():
    names = extension(x509.SubjectAlternativeName)

    assert names.get_values_for_type(x509.DNSName) == ["localhost", "www"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(a) for a in ("127.0.0.1", "fd00::2")]
    assert CERT.subject == CERT.issuer
    assert CERT.subject.rfc4514_string() == "CN=www"


def test_kind():
    assert isinstance(CERT.public_key(), ec.EllipticCurvePublicKey)
    assert CERT.public_key().curve.name == "secp256r1"
    assert not extension(x509.BasicConstraints).ca
    assert list(extension(x509.ExtendedKeyUsage)) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    assert extension(x509.KeyUsage).digital_signature
    assert not extension(x509.KeyUsage).key_cert_sign


def test_dates_are_within_what_mozillas_profiles_allow():
    now = dt.datetime.now(dt.UTC)

    assert CERT.not_valid_before_utc < now - dt.timedelta(minutes=30)
    assert dt.timedelta(89) < CERT.not_valid_after_utc - now <= dt.timedelta(90)


def test_each_has_a_serial_and_a_key_of_its_own():
    other = child.make("www", [], [], 90)

    assert x509.load_pem_x509_certificate(other["chain"].encode()).serial_number != CERT.serial_number
    assert other["key"] != MADE["key"]


def test_a_request_names_nobody_and_is_for_a_key_of_its_own():
    first, second = child.request(), child.request()
    asked = x509.load_pem_x509_csr(first["request"].encode())

    assert asked.is_signature_valid
    assert list(asked.subject) == []
    assert list(asked.extensions) == []
    assert asked.public_key() == load_pem_private_key(first["key"].encode(), None).public_key()
    assert asked.public_key().curve.name == "secp256r1"
    assert first["key"] != second["key"]
    assert first["key"].splitlines()[1] not in first["request"]


def test_it_makes_what_the_order_says(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO('{"make": "request"}'))
    monkeypatch.setattr("sys.stdout", out)
    child.main()

    assert json.loads(out.getvalue()).keys() == {"request", "key"}


def test_it_takes_an_order_and_gives_the_result(monkeypatch):
    order = json.dumps({"common_name": "a", "dns": ["a"], "addresses": [], "days": 1})
    out = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO(order))
    monkeypatch.setattr("sys.stdout", out)
    child.main()

    assert json.loads(out.getvalue()).keys() == {"chain", "key"}


def test_an_order_that_makes_no_sense_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("{}"))
    with pytest.raises(TypeError):
        child.main()
