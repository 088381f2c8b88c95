"""An authority of a test's own: a root made on the spot, or one that is there already; and what it is asked to sign."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from lab.certificates import Pem

SERVER, CLIENT = x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH
BOTH = (SERVER, CLIENT)
"""As sidecars have it from byfahrer's authority."""
Usage = x509.ObjectIdentifier | tuple[x509.ObjectIdentifier, ...]
USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class PrivateCa:
    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def made(cls, name: str = "a root of the tests") -> PrivateCa:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_signed(name, _called(name), key, key, True, -1, 30), key)

    @classmethod
    def read(cls, cert: Path, key: Path) -> PrivateCa:
        """One whose key lies in a file."""
        found = load_pem_private_key(key.read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate(cert.read_bytes()), found)

    @property
    def pem(self) -> bytes:
        return self.cert.public_bytes(Encoding.PEM)

    def issue(
        self, *names: str, begins: float = -1.0, ends: float = 1.0, usage: Usage = SERVER, named: bool = True
    ) -> Pem:
        """
        A leaf for `names` (DNS names, addresses, and URIs), valid from `begins` to `ends` days from now.

        `named` is False for one that has only a common name, the first of them.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        cert = _signed(
            names[0][:64], self.cert.subject, key, self.key, False, begins, ends, usage, names if named else ()
        )
        return Pem(
            cert.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _signed(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    ca: bool,
    begins: float,
    ends: float,
    usage: Usage | None = None,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    uses = dict.fromkeys(USES, False) | (
        {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True}
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_called(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins))
        .not_valid_after(now + dt.timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca, 0 if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**uses), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if usage is not None:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage(usage if isinstance(usage, tuple) else [usage]), critical=False
        )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(each) for each in names]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
