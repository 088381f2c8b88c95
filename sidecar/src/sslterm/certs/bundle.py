"""
What a source hands over: a certificate chain and its key, as the bytes that were read.

Owns the look at those bytes *before* OpenSSL sees them, because OpenSSL says "PEM lib" to an empty file, a truncated
one and a wrong one alike, and a person who rotates certificates needs to know which file is wrong and how.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, Protocol

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")


class Rejected(Exception):  # noqa: N818 - a verdict on the input, not a defect
    """A certificate that cannot be served: `str()` is one line that names the file and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One certificate to serve. Equal bytes are the same certificate."""

    chain: bytes
    """PEM, leaf first."""
    key: bytes = field(repr=False)
    """PEM, not encrypted. Never in a log line, an error or a repr."""
    source: str = field(compare=False)
    """Where `chain` is from, as messages name it: a path, or `self-signed`."""
    key_source: str = field(compare=False)

    def check(self) -> None:
        """Raise `Rejected` if either part is not what it should be, as far as that shows without OpenSSL."""
        labels = _labels(self.chain, self.source)
        if not any(label.endswith("CERTIFICATE") for label in labels):
            raise Rejected(f"{self.source}: holds no certificate, only {_listed(labels)}")
        labels = _labels(self.key, self.key_source)
        if "ENCRYPTED PRIVATE KEY" in labels or b"Proc-Type: 4,ENCRYPTED" in self.key:
            hint = "write it without one: openssl pkey -in FILE -out FILE"
            raise Rejected(f"{self.key_source}: the key is encrypted with a passphrase ({hint})")
        if not any(label.endswith("PRIVATE KEY") for label in labels):
            raise Rejected(f"{self.key_source}: holds no private key, only {_listed(labels)}")

    def leaf(self) -> bytes:
        """The certificate that comes first, as DER."""
        return next(_decoded(body, self.source) for label, body in _blocks(self.chain) if label.endswith("CERTIFICATE"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf, as `openssl x509 -fingerprint -sha256` has it, in lower case and without colons."""
        return hashlib.sha256(self.leaf()).hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """All that a handshake needs: which certificates to serve, and whose clients to believe. Equal bytes are equal."""

    pairs: tuple[Bundle, ...]
    """The default first; the others are for clients that ask for a name that they hold (SNI, RFC 6066, section 3)."""
    authorities: bytes = b""
    """PEM: those that others' certificates must come from; empty where none is asked for, or none is known."""
    authorities_source: str = field(default="the authority", compare=False)
    """Where `authorities` are from, as messages name it."""
    faults: tuple[str, ...] = ()
    """A line for each part that could not be obtained now, and is here as it was before, or not at all."""


class Source(Protocol):
    """Somewhere that certificates come from."""

    async def obtain(self) -> Credentials:
        """The certificates as they are now. Raises `Rejected`."""

    async def changed(self) -> None:
        """Return when `obtain` is worth calling again."""


class Authorities(Protocol):
    """Somewhere that clients' authorities come from, where they do not come along with the certificates."""

    source: str
    """Its name in messages."""

    async def obtain(self) -> bytes:
        """The authorities as they are now, in PEM. Raises `Rejected`."""

    async def changed(self) -> None:
        """Return when `obtain` is worth calling again."""


def authorities_in(pem: bytes, source: str) -> list[bytes]:
    """The certificates in a bundle of authorities, as DER; `Rejected` if it is none, as far as that shows here."""
    if not pem.strip():
        raise Rejected(f"{source}: empty, so that no client's certificate could be believed")
    labels = _labels(pem, source)
    if not any(label.endswith("CERTIFICATE") for label in labels):
        raise Rejected(f"{source}: holds no certificate of an authority, only {_listed(labels)}")
    return [_decoded(body, source) for label, body in _blocks(pem) if label.endswith("CERTIFICATE")]


def _blocks(pem: bytes) -> list[tuple[str, bytes]]:
    """Up to the first that has no end. A pattern for a whole block would look for its end in all that follows."""
    found = []
    at = 0
    while (begin := _BEGIN.search(pem, at)) is not None:
        mark = b"-----END %b-----" % begin[1]
        end = pem.find(mark, begin.end())
        if end < 0:
            break
        found.append((begin[1].decode(), pem[begin.end() : end]))
        at = end + len(mark)
    return found


def _labels(pem: bytes, source: str) -> list[str]:
    """What the PEM blocks in `pem` say that they are; `Rejected` unless all of it is whole."""
    if not pem.strip():
        raise Rejected(f"{source}: the file is empty")
    begun = len(_BEGIN.findall(pem))
    if not begun:
        raise Rejected(f"{source}: {'DER' if pem[:1] == b'0' else 'not PEM'}; a text file with -----BEGIN is needed")
    blocks = _blocks(pem)
    if len(blocks) < begun:
        raise Rejected(f"{source}: cut short, an -----END line is missing")
    for label, body in blocks:
        encrypted = label.endswith("PRIVATE KEY") and b"Proc-Type:" in body  # has a head of its own; `check` names it
        if label.endswith(("CERTIFICATE", "PRIVATE KEY")) and not encrypted:
            der = _decoded(body, source)
            if len(der) != _length(der):
                raise Rejected(f"{source}: damaged, the {label.lower()} has {len(der)} bytes and claims {_length(der)}")
    return [label for label, _ in blocks]


def _decoded(body: bytes, source: str) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise Rejected(f"{source}: damaged, not base64 between its -----BEGIN and -----END") from None


def _length(der: bytes) -> int:
    """How long the outermost ASN.1 SEQUENCE says that it is, its header included (X.690, 8.1.3)."""
    if len(der) < 2 or der[0] != 0x30:
        return 0
    if der[1] < 0x80:
        return 2 + der[1]
    size = der[1] & 0x7F
    return 2 + size + int.from_bytes(der[2 : 2 + size], "big")


def _listed(labels: list[str]) -> str:
    return ", ".join(sorted({label.lower() for label in labels}))
