"""
Client certificates for people and programs that are no containers: `byfahrer ca issue`.

Here, and only here, the key is made on our side: who asks has nothing to make one with. It is handed over and not kept.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from byfahrer.authority import ledger
from byfahrer.authority.certificates import CLIENT, key_pem, new_key
from byfahrer.authority.issuer import Issued, Issuer
from byfahrer.authority.ledger import CLIENTS, Holder
from byfahrer.authority.names import client_names
from byfahrer.authority.state import StateFolder


@dataclass(frozen=True, slots=True)
class Pair:
    """A client's key and certificate."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    issued: Issued
    roots: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> bytes:
        """Key and chain in one file, as curl and most others take it."""
        return f"{key_pem(self.key)}{self.issued.chain}".encode()

    def p12(self, password: bytes) -> bytes:
        """PKCS#12, with the roots, as browsers and phones take it."""
        between = x509.load_pem_x509_certificates(self.issued.chain.encode())[1:]
        cover = BestAvailableEncryption(password)
        certificate = self.issued.certificate
        return serialize_key_and_certificates(self.name.encode(), self.key, certificate, [*between, *self.roots], cover)


def issue(issuer: Issuer, name: str, lifetime: dt.timedelta, now: dt.datetime) -> Pair:
    """A pair for `name`; ValueError if it is no name. AuthorityError."""
    names = client_names(name, issuer.trust_domain)
    key = new_key()
    return Pair(name, key, issuer.issue(key.public_key(), names, lifetime, now, CLIENT), issuer.roots)


def note(folder: StateFolder, pair: Pair, issuer: Issuer, now: dt.datetime) -> None:
    """Keep who holds it, for `ca ls`; those that have ended are forgotten. StateError."""
    issued = pair.issued
    holder = Holder(
        target=pair.name,
        source="client",
        lifetime=round((issued.not_after - now).total_seconds()),
        **ledger.certified(issued, issuer.mark, now),
    )
    with folder.locked():
        kept = [each for each in ledger.read(folder, CLIENTS) if not each.ended(now)]
        folder.write(CLIENTS, ledger.content_of([*kept[-ledger.MOST :], holder]))
