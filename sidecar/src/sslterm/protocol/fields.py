"""
Header fields: what a name and a value may hold, and the names that a proxy must not simply pass on.

RFC 9110 section 5 for the grammar; 7.6.1 for the fields that concern one connection only. Strict where two readers
could differ: anything else is an invitation to request smuggling.
"""

from __future__ import annotations

import enum
from typing import Final


class ProtocolError(Exception):
    """A message that must not be forwarded. `status`: what a client at fault is told; `str()`: why, for the log."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


TOKEN: Final = bytes(c for c in range(33, 127) if chr(c) not in '"(),/:;<=>?@[\\]{}')
"""The bytes of a token (RFC 9110, section 5.6.2): names of fields, methods, codings."""

CONTROLS: Final = bytes(c for c in (*range(32), 127) if c != 9)
_NOT_CONTROLS: Final = bytes(c for c in range(256) if c not in CONTROLS)


class Kind(enum.IntEnum):
    """Why a field is not simply passed on."""

    PLAIN = 0
    """It is."""
    HOST = 1
    LENGTH = 2
    CODING = 3
    CONNECTION = 4
    UPGRADE = 5
    EXPECT = 6
    TE = 7
    FORWARDED_FOR = 8
    FORWARDED = 9
    """Says who called, as X-Forwarded-Proto does: believed from trusted peers only."""
    IDENTITY = 10
    """Says who was authenticated by a proxy: never believed."""
    HOP = 11
    """Concerns one connection: never passed on."""


SPECIAL: Final[dict[bytes, Kind]] = {
    b"host": Kind.HOST,
    b"content-length": Kind.LENGTH,
    b"transfer-encoding": Kind.CODING,
    b"connection": Kind.CONNECTION,
    b"upgrade": Kind.UPGRADE,
    b"expect": Kind.EXPECT,
    b"te": Kind.TE,
    b"x-forwarded-for": Kind.FORWARDED_FOR,
    b"x-forwarded-proto": Kind.FORWARDED,
    b"x-forwarded-host": Kind.FORWARDED,
    b"x-forwarded-port": Kind.FORWARDED,
    b"x-real-ip": Kind.FORWARDED,
    b"forwarded": Kind.FORWARDED,  # RFC 7239
    b"x-forwarded-client-cert": Kind.IDENTITY,  # Envoy
    b"client-cert": Kind.IDENTITY,  # RFC 9440, section 2.4: MUST be removed
    b"client-cert-chain": Kind.IDENTITY,
    b"proxy": Kind.IDENTITY,  # CVE-2016-5385: becomes HTTP_PROXY in a CGI program's environment
    b"x-client-ip": Kind.FORWARDED,
    b"x-cluster-client-ip": Kind.FORWARDED,
    b"true-client-ip": Kind.FORWARDED,
    b"x-scheme": Kind.FORWARDED,
    b"x-url-scheme": Kind.FORWARDED,
    b"front-end-https": Kind.FORWARDED,
    b"keep-alive": Kind.HOP,
    b"proxy-connection": Kind.HOP,
    b"http2-settings": Kind.HOP,  # belongs to "Upgrade: h2c", which is never forwarded
}

_OTHER_FORWARDED: Final = b"x-forwarded-"
"""Stands for the names that begin with it and are not above: -Ssl, -Prefix, -User, and whatever else is in use."""
SPECIAL[_OTHER_FORWARDED] = Kind.FORWARDED
_DROPPED: Final = b"proxy"
_IDENTITIES: Final = (b"x-ssl-", b"ssl-client-", b"x-client-cert", b"x-forwarded-tls-client-cert")
"""How names begin by which other proxies say whose certificate they checked."""
_FOLD: Final = bytes(c if chr(c).isalnum() and c < 128 else 45 for c in range(256))
_NOT_IN_TRAILERS: Final = frozenset(
    b"authorization cache-control content-encoding content-range content-type cookie max-forwards proxy-authorization "
    b"range set-cookie www-authenticate".split()
)
"""Framing, routing, authentication and modifiers, besides `SPECIAL` (RFC 9110, section 6.5.1)."""

_KNOWN: dict[bytes, bytes] = {}
"""Names that were seen and are valid, to their lower case: saves the check for nearly all fields of a real head."""
_KNOWN_LIMIT: Final = 512  # clients choose names, so this must not grow without end


def field_name(name: bytes) -> bytes:
    """`name` in lower case; ProtocolError if it is no token (white space before the colon, obs-fold, nothing)."""
    known = _KNOWN.get(name)
    if known is not None:
        return known
    if not name or name.translate(None, TOKEN):
        raise ProtocolError(400, "a header field name that is none")
    lower = name.lower()
    if lower not in SPECIAL:
        # A CGI-like backend reads X_Forwarded_For, some X.Forwarded.For, as X-Forwarded-For.
        folded = lower.translate(_FOLD)
        if folded.startswith(_IDENTITIES) or (folded != lower and _claims(folded)):
            lower = _DROPPED
        elif folded.startswith(_OTHER_FORWARDED):
            lower = _OTHER_FORWARDED
    if len(name) <= 64:
        if len(_KNOWN) >= _KNOWN_LIMIT:
            _KNOWN.clear()  # the names in use are soon back, those that somebody made up are not
        _KNOWN[name] = lower
    return lower


def kind_of(name: bytes) -> Kind:
    """The kind of the field `name`; ProtocolError as `field_name`."""
    return SPECIAL.get(field_name(name), Kind.PLAIN)


def _claims(folded: bytes) -> bool:
    return folded in SPECIAL or folded.startswith(_OTHER_FORWARDED)


def check_characters(line: bytes) -> None:
    """ProtocolError for a control character, a bare CR or a bare LF in a line."""
    if line.translate(None, _NOT_CONTROLS):
        raise ProtocolError(400, "a control character, bare CR or bare LF in a head")


def check_trailer(line: bytes) -> bool:
    """True if the trailer field may be passed on, False if it has to be dropped; ProtocolError if it is malformed."""
    name, colon, value = line.partition(b":")
    if not colon or value.translate(None, _NOT_CONTROLS):
        raise ProtocolError(400, "a trailer field that is none")
    lower = field_name(name)
    return lower not in SPECIAL and lower not in _NOT_IN_TRAILERS
