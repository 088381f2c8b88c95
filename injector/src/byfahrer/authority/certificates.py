"""
Certificates as bytes of ASN.1: what a root, a cross certificate and a leaf have in them, and what a request asks for.

No files, no clock, no policy but RFC 5280 and the SPIFFE X.509-SVID specification: one URI, no authority among leaves.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from byfahrer.authority.errors import RequestError
from byfahrer.authority.names import Names, as_address

SERVER_AND_CLIENT: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
CLIENT: Final = (ExtendedKeyUsageOID.CLIENT_AUTH,)

LONGEST_COMMON_NAME: Final = 64
"""ub-common-name, RFC 5280 appendix A."""
LARGEST_RSA: Final = 8192
"""Bits: what a larger key costs, everybody who talks to its holder pays."""

PrivateKey = CertificateIssuerPrivateKeyTypes
_MALFORMED: Final = (
    ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)  # fmt: skip


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def pem(*certificates: x509.Certificate) -> str:
    """One after the other, as a chain or bundle file has them."""
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in certificates)


def same_key(one: CertificatePublicKeyTypes, other: CertificatePublicKeyTypes) -> bool:
    as_bytes = [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for key in (one, other)]
    return as_bytes[0] == as_bytes[1]


def key_id(certificate: x509.Certificate) -> bytes:
    """The subject key identifier that others refer to it by."""
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def root_name(key: PrivateKey, trust_domain: str) -> x509.Name:
    """A name of its own for each root: clients that know two of them find the right one by it."""
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[:4].hex()
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:LONGEST_COMMON_NAME]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"byfahrer authority {mark}"),
        ]
    )


def authority(
    *,
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    signer: PrivateKey,
    not_before: dt.datetime,
    not_after: dt.datetime,
    constraints: x509.NameConstraints | None,
) -> x509.Certificate:
    """A certificate that may sign others: a root, or, with another's name and key as issuer, a cross certificate."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_usage(key_cert_sign=True, crl_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    if constraints is not None:
        extensions.append((constraints, True))
    return _signed(subject, public_key, issuer, signer, (not_before, not_after), extensions)


def leaf(
    *,
    names: Names,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Certificate,
    signer: PrivateKey,
    not_before: dt.datetime,
    not_after: dt.datetime,
    usages: Sequence[x509.ObjectIdentifier] = SERVER_AND_CLIENT,
) -> x509.Certificate:
    """A certificate for these names. Its subject is the first that fits, for people; programs read the others."""
    common = [name for name in names.dns if name != "localhost" and len(name) <= LONGEST_COMMON_NAME][:1]
    general: list[x509.GeneralName] = [x509.DNSName(name) for name in names.dns]
    general += [x509.IPAddress(ipaddress.ip_address(text)) for text in names.addresses]
    if names.spiffe:
        general.append(x509.UniformResourceIdentifier(names.spiffe))
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        # Without a subject, all that names the holder is here (RFC 5280, 4.2.1.6).
        (x509.SubjectAlternativeName(general), not common),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True, key_encipherment=isinstance(public_key, rsa.RSAPublicKey)), True),
        (x509.ExtendedKeyUsage(usages), False),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (x509.AuthorityKeyIdentifier(key_id(issuer), None, None), False),
    ]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common])
    return _signed(subject, public_key, issuer.subject, signer, (not_before, not_after), extensions)


def read_request(text: bytes) -> tuple[CertificatePublicKeyTypes, Names]:
    """The key that a request in PEM proves to have, and the names that it asks for. RequestError."""
    try:
        request = x509.load_pem_x509_csr(text)
        signed = request.is_signature_valid
        public_key = request.public_key()
        common = [each.value for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        general = _alternative_names(request)
    except _MALFORMED:
        raise RequestError("expected a certificate request (CSR) in PEM") from None
    if not signed:
        raise RequestError("the signature of the certificate request does not fit its key")
    if not _is_strong(public_key):
        raise RequestError("expected a key of EC P-256, P-384, Ed25519, or RSA with 2048 bits or more")
    return public_key, _names(general, [text for text in common if isinstance(text, str)])


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _names(general: Sequence[x509.GeneralName], common: Sequence[str]) -> Names:
    """As far as they are of the kinds that we give; others can be nobody's here, whatever they say."""
    dns = [each.value.lower() for each in general if isinstance(each, x509.DNSName)]
    addresses = [str(each.value) for each in general if isinstance(each, x509.IPAddress)]
    uris = [each.value for each in general if isinstance(each, x509.UniformResourceIdentifier)]
    for text in common:
        address = as_address(text)
        if address is None:
            dns.append(text.lower())
        else:
            addresses.append(address)
    if len(uris) > 1 or len(uris) + len(addresses) + len(dns) < len(general) + len(common):
        raise RequestError("expected DNS names, addresses and one URI at most in the certificate request")
    return Names(dns=tuple(dns), addresses=tuple(addresses), spiffe=uris[0] if uris else "")


def _is_strong(key: CertificatePublicKeyTypes) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    if isinstance(key, rsa.RSAPublicKey):
        return 2048 <= key.key_size <= LARGEST_RSA
    return isinstance(key, ed25519.Ed25519PublicKey)


def _signed(
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    signer: PrivateKey,
    valid: tuple[dt.datetime, dt.datetime],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, _digest(signer))


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The hash to sign with, as strong as the key; Ed25519 has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    strong = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if strong else hashes.SHA256()


def _usage(**used: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})
