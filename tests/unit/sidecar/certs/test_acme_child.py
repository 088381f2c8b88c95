"""The parts of an order that are more than a call of the library."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from sslterm.certs import acme_child


def test_a_proof_is_as_rfc_8737_wants_it():
    made = acme_child._proof("site.example", "token.thumbprint")
    leaf = x509.load_pem_x509_certificate(made["chain"].encode())
    identifier = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert identifier.critical
    assert identifier.value.value == b"\x04\x20" + hashlib.sha256(b"token.thumbprint").digest()
    assert list(names) == [x509.DNSName("site.example")]
    assert leaf.issuer == leaf.subject
    assert load_pem_private_key(made["key"].encode(), None).public_key() == leaf.public_key()


def test_a_request_names_all_and_has_no_subject():
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.load_pem_x509_csr(acme_child._request(key, ["b.example", "a.example"]))
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["b.example", "a.example"]
    assert list(request.subject) == []
    assert request.is_signature_valid


@pytest.mark.parametrize(
    ("serial", "expected"),
    [(0x8765_4321, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"), (0x7F, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.fw")],
)
def test_a_certificate_is_called_as_rfc_9773_says(serial, expected):
    """The first is the example in its section 4.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    issuer = bytes.fromhex("69885b6b87464041e1b37b847ba0ae2cde01c8d4")
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(begin + dt.timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier(issuer, None, None), critical=False)
        .sign(key, hashes.SHA256())
    )

    assert acme_child._certificate_id(leaf.public_bytes(Encoding.PEM).decode()) == expected
