"""
Make a key and what goes with it: an order as JSON on stdin, the result as JSON on stdout, then exit.

A program of its own, started by `maker.py` by its path. It alone imports `cryptography`, whose 9 MB would otherwise
stay in every sidecar for one tenth of a second's work; and it imports nothing of sslterm, so it starts in the time that
`cryptography` takes.

Two orders are known, by `make`. `self-signed`: `common_name`, `dns` and `addresses` (lists of strings), `days`; the
result is `chain` and `key`, both PEM. `request`: nothing more; the result is `request` (a CSR for whoever certifies the
key, and who alone says for which names) and `key`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import sys
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BACKDATED = dt.timedelta(hours=1)
"""For clients whose clock is behind."""


def main() -> None:
    """Read the order, write the result. An order that makes no sense is a traceback and exit code 1."""
    order = json.load(sys.stdin)
    kinds: dict[str, Callable[..., dict[str, str]]] = {"self-signed": make, "request": request}
    json.dump(kinds[order.pop("make", "self-signed")](**order), sys.stdout)


def request() -> dict[str, str]:
    """A fresh P-256 key, and a request to certify it that names nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    signed = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return {"request": signed.public_bytes(Encoding.PEM).decode(), "key": _pem(key)}


def make(common_name: str, dns: Sequence[str], addresses: Sequence[str], days: float) -> dict[str, str]:
    """A fresh P-256 key and a server certificate for it that is its own issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dns]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
    )
    for extension, critical in _extensions(key.public_key(), names):
        builder = builder.add_extension(extension, critical=critical)
    certificate = builder.sign(key, hashes.SHA256())
    return {
        "chain": certificate.public_bytes(Encoding.PEM).decode(),
        "key": _pem(key),
    }


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _extensions(key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName]) -> list[tuple[Any, bool]]:
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign",
         "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    return [
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(digital_signature=True, **usage), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    ]


if __name__ == "__main__":
    main()
