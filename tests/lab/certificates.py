"""Certificates for tests, good and bad ones, made in the test process."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)


@dataclass(frozen=True)
class Pem:
    """A certificate that vouches for itself, and its key."""

    cert: bytes
    key: bytes

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Both as files, written over whatever is there; their paths."""
        directory.mkdir(exist_ok=True)
        cert, key = directory / "cert.pem", directory / "key.pem"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.cert).serial_number


def make(
    *names: str,
    begins: float = -1.0,
    ends: float = 30.0,
    passphrase: bytes | None = None,
    usage: x509.ObjectIdentifier = x509.ExtendedKeyUsageOID.SERVER_AUTH,
    rsa_bits: int = 0,
) -> Pem:
    """A self-signed pair for `names` (DNS names and addresses), valid from `begins` to `ends` days from now."""
    key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, (names or ("localhost",))[0])])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins))
        .not_valid_after(now + dt.timedelta(days=ends))
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
    cover = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return Pem(
        builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cover),
    )


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
