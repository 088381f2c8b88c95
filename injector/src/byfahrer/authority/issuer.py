"""
What leaves are signed with: a key, its certificate, the way up from there, and the roots to believe. Immutable.

Where it comes from is another matter: `ca` keeps a root of our own, `brought` reads one of the operator's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from byfahrer.authority.certificates import SERVER_AND_CLIENT, PrivateKey, leaf, pem
from byfahrer.authority.constraints import Constraints
from byfahrer.authority.errors import AuthorityError
from byfahrer.authority.names import Names

BACKDATED: Final = dt.timedelta(minutes=5)
"""
For clients whose clock is behind: what unsynchronised clocks of one site differ by, and Kerberos allows. More would let
a certificate be of use for longer than was asked for; the shortest, of a minute, would be mostly past.
"""
NEAR: Final = dt.timedelta(days=30)
"""What is left of an issuer when people are told; a tenth of its life, if that is less."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed just now."""

    certificate: x509.Certificate
    chain: str
    """PEM, leaf first, without the root."""
    names: Names
    """What it says, which may be less than was asked for."""

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:x}"

    @property
    def sha256(self) -> str:
        return fingerprint(self.certificate)

    @property
    def not_before(self) -> dt.datetime:
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> dt.datetime:
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Signs leaves. `repr` leaves its key out."""

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()
    """What stands between a leaf and the present root: intermediates, the issuing one first."""
    crossed: tuple[x509.Certificate, ...] = ()
    """Cross certificates, by which clients that know an older root only find from the present one to theirs."""
    roots: tuple[x509.Certificate, ...]
    """To believe; the present one first."""
    trust_domain: str
    constraints: Constraints = field(repr=False)

    @property
    def mark(self) -> str:
        """Which issuer this is: it changes when the key does, or the roots."""
        told = "".join(map(fingerprint, (self.certificate, *self.above, *self.crossed, *self.roots)))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def authorities(self) -> str:
        """PEM, the present root first."""
        return pem(*self.roots)

    def issue(
        self,
        public_key: CertificatePublicKeyTypes,
        names: Names,
        lifetime: dt.timedelta,
        now: dt.datetime,
        usages: Sequence[x509.ObjectIdentifier] = SERVER_AND_CLIENT,
    ) -> Issued:
        """A leaf for `names`, as far as the constraints let them pass. AuthorityError if this issuer is not valid."""
        first = max(each.not_valid_before_utc for each in self._path())
        last = min(each.not_valid_after_utc for each in self._path())
        if now >= last:
            raise AuthorityError(f"the certificate authority is over since {last:%Y-%m-%d %H:%M} UTC")
        if now < first:
            raise AuthorityError(f"the certificate authority begins at {first:%Y-%m-%d %H:%M} UTC; is the clock right?")
        within = self.constraints.within(names)
        certificate = leaf(
            names=within,
            public_key=public_key,
            issuer=self.certificate,
            signer=self.key,
            not_before=max(now - BACKDATED, first),
            not_after=min(now + lifetime, last),
            usages=usages,
        )
        return Issued(certificate, pem(certificate, *self.above, *self.crossed), within)

    def warning(self, now: dt.datetime) -> str:
        """One line if it ends soon, or ""."""
        ending = min(self._path(), key=lambda each: each.not_valid_after_utc)
        life = ending.not_valid_after_utc - ending.not_valid_before_utc
        left = ending.not_valid_after_utc - now
        if left > min(NEAR, life / 10):
            return ""
        what = ending.subject.rfc4514_string() or "without a subject"
        end = f"{ending.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        return f"the authority's certificate {what} {'ended' if left <= dt.timedelta(0) else 'ends'} at {end}"

    def _path(self) -> tuple[x509.Certificate, ...]:
        """From the issuing certificate to the present root; cross certificates are beside it."""
        return (self.certificate, *self.above, self.roots[0])


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole, as hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()
