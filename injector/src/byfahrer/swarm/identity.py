"""
How byfahrers of one Swarm know each other: certificates of the authority that they share, for mutual TLS.

`spiffe://<trust domain>/byfahrer/<node>` is nobody else's: targets are below `/ns/`, clients below `/client/`. So it is
what is checked, and not a host name: `tasks.<service>` is many hosts. Each makes its own, since each has the key.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import ssl
from collections.abc import Callable
from typing import Final

from cryptography import x509

from byfahrer.authority.certificates import key_pem, new_key
from byfahrer.authority.issuer import Issuer
from byfahrer.authority.names import Names
from byfahrer.authority.times import utc

LIFETIME: Final = dt.timedelta(hours=24)
_NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)


class NotOurs(Exception):  # noqa: N818 - an answer, not an error of ours
    """Whoever is at the other end has a certificate of our authority, and is no byfahrer."""


class Identity:
    """This node's, from what signs now."""

    def __init__(self, issuer: Callable[[], Issuer], node: str, now: Callable[[], dt.datetime] = utc) -> None:
        """`node`: a name of this node, for people: it is in its certificate."""
        self._issuer = issuer
        self._node = node if _NODE.fullmatch(node) and node not in (".", "..") else "node"
        self._now = now
        self._made: dict[bool, tuple[str, dt.datetime, ssl.SSLContext]] = {}

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 with a certificate from both, made anew after a rotation and at half of its life. AuthorityError."""
        issuer, now = self._issuer(), self._now()
        mark, until, context = self._made.get(server, ("", now, None))
        if context is None or mark != issuer.mark or now >= until:
            context = _context(issuer, self._node, now, server=server)
            self._made[server] = (issuer.mark, now + LIFETIME / 2, context)
        return context

    def check(self, certificate: bytes | None) -> None:
        """NotOurs, unless the certificate, in DER, that was shown and is valid is a byfahrer's."""
        prefix = f"spiffe://{self._issuer().trust_domain}/byfahrer/"
        try:
            shown = x509.load_der_x509_certificate(certificate or b"")
            general = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = general.get_values_for_type(x509.UniformResourceIdentifier)
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            uris = []
        if len(uris) != 1 or not uris[0].startswith(prefix):
            raise NotOurs(uris[0] if uris else "a certificate without a SPIFFE ID")


def _context(issuer: Issuer, node: str, now: dt.datetime, *, server: bool) -> ssl.SSLContext:
    key = new_key()
    names = Names(spiffe=f"spiffe://{issuer.trust_domain}/byfahrer/{node}")
    issued = issuer.issue(key.public_key(), names, LIFETIME, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=issuer.authorities)
    # OpenSSL's interface in Python wants a file: one in memory, which nobody else can open.
    with os.fdopen(os.memfd_create("byfahrer", os.MFD_CLOEXEC), "wb") as file:
        file.write(key_pem(key).encode() + issued.chain.encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
