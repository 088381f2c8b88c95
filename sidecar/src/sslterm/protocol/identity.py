"""
Who a client proved to be: what its certificate says, checked for sense, and as header fields for the backend.

Everything here is from a certificate that OpenSSL has verified; but what an authority signs can still be nonsense, or
made to be read as something else. So only names of the usual characters count as names, and a certificate is refused
where SPIFFE says so (X509-SVID, sections 2 and 5.2).
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from dataclasses import dataclass
from typing import Any, Final

_DNS: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_SPIFFE: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")
_LONGEST_URI: Final = 2048
"""Bytes (SPIFFE-ID, section 2.3)."""
_MOST_CERTIFICATE: Final = 6144
"""Characters of base64 in `Client-Cert`: many servers take 8 KiB of head in all, and a usual certificate has 1 KiB."""
_MOST_DETAILS: Final = 4096
"""Characters of `X-Forwarded-Client-Cert`, for the same reason."""
_LONGEST_NAME: Final = 256
"""Characters of a name in a log line."""
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
"""What RFC 2253, section 2.3, and its successor abbreviate; the others keep their names."""


class IdentityError(Exception):
    """A certificate that names nobody in an unambiguous way; `str()`: why, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """What a client's certificate says."""

    uri: str
    """Its SPIFFE ID; empty if it has none."""
    dns: tuple[str, ...]
    common_name: str
    """Empty if it has none."""
    subject: str
    """As RFC 2253 writes it: safe between double quotes."""
    sha256: str
    """Of the certificate, as 64 hexadecimal digits."""
    not_after: float
    """Seconds since 1970."""
    der: bytes
    names: tuple[str, ...]
    """By which it may be allowed to call, besides `uri`: `dns`, or the common name where it has no other at all."""

    @property
    def name(self) -> str:
        """One name for logs: printable ASCII, without spaces, bounded."""
        name = self.uri or (self.dns[0] if self.dns else self.common_name) or f"sha256:{self.sha256}"
        return printable(name)


def printable(name: str) -> str:
    """`name` with everything escaped that could forge or colour a line, or split a column; bounded."""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}..."
    return "".join(c if "!" <= c <= "~" and c not in '|"\\' else f"\\x{ord(c):02x}" for c in name)


def read(peer: dict[str, Any], der: bytes) -> PeerIdentity:
    """The identity in what `ssl` says of a verified certificate. Raises IdentityError."""
    alternatives: list[tuple[str, str]] = list(peer.get("subjectAltName", ()))
    uris = [value for kind, value in alternatives if kind == "URI"]
    claimed = [value for kind, value in alternatives if kind == "DNS"]
    common = [value for part in peer.get("subject", ()) for kind, value in part if kind == "commonName"]
    common_name: str = common[-1] if common else ""
    dns = tuple(value for value in claimed if len(value) <= 253 and _DNS.fullmatch(value))
    usable = dns
    if not claimed and not uris and len(common_name) <= 253 and _DNS.fullmatch(common_name):
        usable = (common_name,)
    return PeerIdentity(
        uri=_spiffe(uris),
        dns=dns,
        common_name=common_name,
        subject=_distinguished(peer.get("subject", ())),
        sha256=hashlib.sha256(der).hexdigest(),
        not_after=float(ssl.cert_time_to_seconds(peer["notAfter"])),
        der=der,
        names=usable,
    )


def _spiffe(uris: list[str]) -> str:
    if not any(each[:7].lower() == "spiffe:" for each in uris):
        return ""
    if len(uris) > 1:
        raise IdentityError(f"{len(uris)} URIs beside a SPIFFE ID, which must be the only one")
    if len(uris[0]) > _LONGEST_URI or not _SPIFFE.fullmatch(uris[0]):
        raise IdentityError(f"{printable(uris[0])} is no SPIFFE ID")
    return uris[0]


def _distinguished(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """RFC 2253: the last part first, and what is not ASCII in hexadecimal."""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    out = []
    last = len(value) - 1
    for at, c in enumerate(value):
        if c in ',+"\\<>;' or (at == 0 and c in " #") or (at == last and c == " "):
            out.append(f"\\{c}")
        elif " " <= c <= "~":
            out.append(c)
        else:
            out.append("".join(f"\\{byte:02X}" for byte in c.encode("utf-8", "surrogatepass")))
    return "".join(out)


def header_fields(identity: PeerIdentity, own_uri: str) -> bytes:
    """
    The lines by which a backend learns who calls: `Client-Cert` (RFC 9440) and `X-Forwarded-Client-Cert` (Envoy's).

    What would make a request's head too long for usual servers is left out: a certificate that is too large, and then
    the subject and the DNS names. Hash and SPIFFE ID are always there.
    """
    lines = []
    certificate = base64.b64encode(identity.der)
    if len(certificate) <= _MOST_CERTIFICATE:
        lines.append(b"Client-Cert: :%b:\r\n" % certificate)
    by = [f"By={own_uri}"] if _SPIFFE.fullmatch(own_uri) else []
    digest = [f"Hash={identity.sha256}"]
    subject = [f'Subject="{identity.subject}"']
    uri = [f"URI={identity.uri}"] if identity.uri else []
    names = [f"DNS={name}" for name in identity.dns]
    details = ";".join(by + digest + subject + uri + names)
    if len(details) > _MOST_DETAILS:
        details = ";".join(by + digest + uri)
    lines.append(f"X-Forwarded-Client-Cert: {details}\r\n".encode("ascii"))
    return b"".join(lines)
