"""
An issuer that the operator brought: a root or an intermediate, so that several nodes share one trust.

Whatever is wrong with it would show at the clients only, and there as "unknown authority": everything is checked here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from loguru import logger

from byfahrer.authority.certificates import SERVER_AND_CLIENT, PrivateKey, same_key
from byfahrer.authority.constraints import Constraints
from byfahrer.authority.errors import IssuerError
from byfahrer.authority.issuer import Issuer
from byfahrer.authority.state import version
from byfahrer.authority.times import utc

_LARGEST_FILE: Final = 1024**2
_LONGEST_CHAIN: Final = 8


def load(cert: Path, key: Path, trust_domain: str, now: dt.datetime) -> Issuer:
    """The issuer in these files, checked. IssuerError, which names the file."""
    chain = _certificates(cert)
    private = _private_key(key)
    issuing, root = chain[0], chain[-1]
    if not same_key(private.public_key(), issuing.public_key()):
        raise IssuerError(f"--ca-key {key}: it does not belong to the first certificate in {cert}")
    for index, each in enumerate(chain):
        where = f"--ca-cert {cert}: certificate {index + 1} of {len(chain)} ({each.subject.rfc4514_string()})"
        _check_authority(each, index, where, now)
        above = chain[index + 1] if index + 1 < len(chain) else None
        if above is not None and not _signed_by(each, above):
            raise IssuerError(f"{where} is not signed by the next one; expected the issuing one first, its root last")
    if not _signed_by(root, root):
        raise IssuerError(f"--ca-cert {cert}: the last certificate is not self-signed; expected the chain up to a root")
    constraints = Constraints(chain)
    if not constraints.permits_domain(trust_domain):
        raise IssuerError(f"--ca-cert {cert}: its name constraints do not permit the trust domain {trust_domain}")
    return Issuer(
        key=private,
        certificate=issuing,
        above=tuple(chain[:-1]),
        roots=(root,),
        trust_domain=trust_domain,
        constraints=constraints,
    )


def _check_authority(certificate: x509.Certificate, below: int, where: str, now: dt.datetime) -> None:
    """Whether a certificate with `below` others between it and the leaves may sign what is below it."""
    if now >= certificate.not_valid_after_utc:
        raise IssuerError(f"{where} is expired since {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if now < certificate.not_valid_before_utc:
        raise IssuerError(f"{where} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    try:
        found = {each.oid: each.value for each in certificate.extensions}
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise IssuerError(f"{where} has extensions that cannot be read") from None
    basic = found.get(x509.BasicConstraints.oid)
    if not isinstance(basic, x509.BasicConstraints) or not basic.ca:
        raise IssuerError(f"{where} is no certificate authority (basicConstraints: CA:TRUE is missing)")
    usage = found.get(x509.KeyUsage.oid)
    if isinstance(usage, x509.KeyUsage) and not usage.key_cert_sign:
        raise IssuerError(f"{where} may not sign certificates (keyUsage: keyCertSign is missing)")
    if basic.path_length is not None and basic.path_length < below:
        raise IssuerError(f"{where} allows {basic.path_length} authorities below it (pathlen), and there are {below}")
    extended = found.get(x509.ExtendedKeyUsage.oid)
    if isinstance(extended, x509.ExtendedKeyUsage):
        allowed = {each.dotted_string for each in extended}
        missing = {each.dotted_string for each in SERVER_AND_CLIENT} - allowed
        if missing and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string not in allowed:
            raise IssuerError(f"{where} may not sign for TLS servers and clients (extendedKeyUsage)")


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(_read(path, "--ca-cert"))
        for each in found:
            each.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise IssuerError(f"--ca-cert {path}: expected certificates in PEM, the issuing one first") from None
    if len(found) > _LONGEST_CHAIN:
        raise IssuerError(f"--ca-cert {path}: expected a chain of at most {_LONGEST_CHAIN} certificates")
    return found


def _private_key(path: Path) -> PrivateKey:
    text = _read(path, "--ca-key")
    try:
        key = load_pem_private_key(text, password=None)
    except TypeError:
        raise IssuerError(f"--ca-key {path}: it is encrypted; expected a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise IssuerError(f"--ca-key {path}: expected a private key in PEM") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise IssuerError(f"--ca-key {path}: expected a key of EC, RSA or Ed25519")
    if _key_size(key) < (2048 if isinstance(key, rsa.RSAPrivateKey) else 256):
        raise IssuerError(f"--ca-key {path}: its {_key_size(key)} bits are too few: clients refuse what it signs")
    return key


def _key_size(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> int:
    return 256 if isinstance(key, ed25519.Ed25519PrivateKey) else key.key_size


def _read(path: Path, option: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise IssuerError(f"{option} {path}: {error.strerror or error}") from None
    if len(content) > _LARGEST_FILE:
        raise IssuerError(f"{option} {path}: expected at most {_LARGEST_FILE} bytes")
    return content


class Brought:
    """The issuer in two files that the operator keeps; read anew when they change. A bad change is told, not used."""

    def __init__(self, cert: Path, key: Path, trust_domain: str, *, now: Callable[[], dt.datetime] = utc) -> None:
        """IssuerError, if they cannot be used."""
        self._files = (cert, key)
        self._trust_domain = trust_domain
        self._now = now
        self._version = self._there()
        self._issuer = load(cert, key, trust_domain, now())

    def issuer(self) -> Issuer:
        """What to sign with now."""
        there = self._there()
        if there != self._version:
            self._version = there
            try:
                self._issuer = load(*self._files, self._trust_domain, self._now())
                logger.info("Certificate authority read anew from {}", self._files[0])
            except IssuerError as error:
                # Two files are seldom replaced at the same moment: the next look may find them to fit.
                logger.warning("Certificate authority: {}; the one before stays in use", error)
        return self._issuer

    def _there(self) -> list[tuple[int, ...] | None]:
        return [version(path) for path in self._files]
