"""
From a bundle to an `ssl.SSLContext` that is known to work.

The profiles are Mozilla's (`profiles.py`). The key-exchange groups belong to them too, but Python cannot set those on a
context: they come from `openssl.cnf`. A context is proved by one handshake in memory before anybody relies on it: that
shows that key and certificate fit and that a client finds a common cipher, and it is also how the certificate's names
and dates are read, in 3 ms and without a certificate library in the process.

A client's certificate is looked at by OpenSSL, for the purpose of a client's and within its dates. What is in the
bundle of authorities is trusted, be it a root or not. The strict check (VERIFY_X509_STRICT) is left off: it adds
nothing about whom to trust, which the bundle alone says, and turns away what older tools make, for instance
certificates without a key id.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final, NoReturn

from sslterm.certs.bundle import Bundle, Rejected, authorities_in
from sslterm.certs.profiles import PROFILES
from sslterm.settings import CHECK_ALPN, ClientAuth, Mode, TlsProfile

_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), for which `ssl` has no name."""

_MOST_TURNS: Final = 8
"""Of both sides; a TLS 1.3 handshake takes two, and nothing may spin here."""

_MISMATCH: Final = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
"""The last one is what a key of another kind than the certificate's comes to (RSA beside ECDSA)."""

_REASONS: Final = {
    "EE_KEY_TOO_SMALL": "its key is too short for the TLS library's security level",
    "CA_MD_TOO_WEAK": "it is signed with a digest too weak for the TLS library's security level",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says of itself."""

    names: tuple[str, ...]
    """Its subject alternative names; where it has none, the common name."""
    not_before: datetime
    not_after: datetime
    hosts: tuple[str, ...] = ()
    """Of the names those that a client can ask for by SNI: DNS names, in lower case."""
    uris: tuple[str, ...] = ()
    serial: str = ""
    """In hexadecimal, as the certificate's issuer has it."""

    @property
    def spiffe_id(self) -> str:
        """Empty if it has none: an X.509-SVID has exactly one URI (SPIFFE X509-SVID, section 2)."""
        return self.uris[0] if len(self.uris) == 1 and self.uris[0].startswith("spiffe://") else ""

    def fault(self, now: datetime) -> str | None:
        """Why no client would accept it at this time, if so."""
        if now > self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d %H:%M} UTC"
        if now < self.not_before:
            return f"not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        return None


def build(bundle: Bundle, mode: Mode, profile: TlsProfile) -> ssl.SSLContext:
    """A server context that serves `bundle`; `Rejected` if OpenSSL does not take it."""
    context = _prepare(ssl.PROTOCOL_TLS_SERVER, profile)
    # One, as Go's servers do: every resumption brings the next one, and each has to be made and sent.
    context.num_tickets = 1
    # All of these ciphers are sound, so the client chooses, which knows what its processor does fast (Mozilla).
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1", CHECK_ALPN] if mode is Mode.HTTP else [CHECK_ALPN])
    _load(context, bundle)
    return context


def build_client(bundle: Bundle, profile: TlsProfile, authorities: bytes, source: str) -> ssl.SSLContext:
    """A client context that shows `bundle` to servers of these authorities, each by its name; `Rejected` as others."""
    context = _prepare(ssl.PROTOCOL_TLS_CLIENT, profile)
    # A name is among the alternative names, or it is not there (RFC 9525, section 2): an authority checks no others.
    context.hostname_checks_common_name = False
    _load(context, bundle)
    _believe(context, authorities, source)
    return context


def _prepare(protocol: int, profile: TlsProfile) -> ssl.SSLContext:
    """What both ends have in common."""
    context = ssl.SSLContext(protocol)
    allowed = PROFILES[profile]
    context.minimum_version = ssl.TLSVersion[allowed.versions[0]]
    if allowed.ciphers:
        context.set_ciphers(":".join(allowed.ciphers))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # On by default in Python 3.11.2 (Debian 12): a TCP stream that was cut would then look like one that ended.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def ask_clients(context: ssl.SSLContext, wanted: ClientAuth, authorities: bytes, source: str) -> None:
    """Have `context` ask clients for a certificate, as `wanted`; `Rejected` if `authorities` are none."""
    if wanted is ClientAuth.NONE:
        return
    _believe(context, authorities, source)
    context.verify_mode = ssl.CERT_REQUIRED if wanted is ClientAuth.REQUIRED else ssl.CERT_OPTIONAL


def _believe(context: ssl.SSLContext, authorities: bytes, source: str) -> None:
    """Have `context` trust what is in this bundle; `Rejected` if there are no authorities in it."""
    # Written anew: bundles have comments in all sorts of alphabets, and Python takes ASCII only.
    ascii_only = "".join(map(ssl.DER_cert_to_PEM_cert, authorities_in(authorities, source)))
    try:
        context.load_verify_locations(cadata=ascii_only)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "the TLS library cannot read it"
        raise Rejected(f"{source}: {reason}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def prove(context: ssl.SSLContext, bundle: Bundle) -> Facts:
    """
    What `bundle` says of itself, after one handshake with `context` by a client that trusts exactly its leaf.

    Before `ask_clients`, since this client has nothing to show.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # As PEM: where the library does not know the second groups line (`openssl.cnf`), each new context leaves a
    # complaint in OpenSSL's error queue, and `ssl` takes that for a fault of a DER certificate. Everything else clears
    # the queue first.
    client.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(bundle.leaf()))
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _ in range(_MOST_TURNS):
            if not _pending(near) | _pending(far):
                break
        return _facts(near.getpeercert() or {})
    except ssl.SSLCertVerificationError as error:
        raise Rejected(f"{bundle.source}: not a server's certificate ({error.verify_message})") from None
    except (ssl.SSLError, ValueError) as error:
        _reject(bundle, error)


def _pending(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return True
    return False


def _facts(peer: dict[str, Any]) -> Facts:
    names = [_name(kind, value) for kind, value in peer.get("subjectAltName", ())]
    common = [value for part in peer["subject"] for kind, value in part if kind == "commonName"]
    begin, end = (datetime.fromtimestamp(ssl.cert_time_to_seconds(peer[at]), UTC) for at in ("notBefore", "notAfter"))
    found: dict[str, list[str]] = {"DNS": [], "URI": []}
    for kind, value in peer.get("subjectAltName", ()):
        found.setdefault(kind, []).append(value)
    return Facts(
        names=tuple(names or common),
        not_before=begin,
        not_after=end,
        hosts=tuple(each.lower() for each in found["DNS"]),
        uris=tuple(found["URI"]),
        serial=str(peer.get("serialNumber", "")).lower(),
    )


def _name(kind: str, value: str) -> str:
    return str(ip_address(value.strip())) if kind == "IP Address" else value


def _load(context: ssl.SSLContext, bundle: Bundle) -> None:
    """Load exactly the bytes that were read: `load_cert_chain` takes only paths, and a file may change in between."""
    try:
        with _in_memory(bundle.chain) as chain, _in_memory(bundle.key) as key:
            context.load_cert_chain(chain, key, password=_no_passphrase)
    except ssl.SSLError as error:
        _reject(bundle, error)
    except OSError as error:  # no descriptor left, mostly
        raise Rejected(f"{bundle.source} with {bundle.key_source}: {error.strerror}") from None


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of a file that holds `content` and is on no disk."""
    with os.fdopen(os.memfd_create("pem", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _no_passphrase() -> NoReturn:
    """Called for an encrypted key that `Bundle.check` did not see; without it OpenSSL would ask the terminal."""
    raise Rejected("the key is encrypted with a passphrase")


def _reject(bundle: Bundle, error: Exception) -> NoReturn:
    reason = getattr(error, "reason", None) or "the TLS library cannot read it"
    if reason in _MISMATCH:
        raise Rejected(f"{bundle.key_source}: not the key of the first certificate in {bundle.source}") from None
    raise Rejected(f"{bundle.source} with {bundle.key_source}: {_REASONS.get(reason, reason)}") from None
