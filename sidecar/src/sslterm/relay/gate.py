"""
Who may call: the look at a client's certificate that comes after OpenSSL's, once for each connection.

OpenSSL has verified the chain, but in a resumed session it did so long ago: the date is looked at again here. A
listener has a gate only if it asks clients for certificates.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from sslterm.protocol import identity
from sslterm.protocol.identity import IdentityError, PeerIdentity
from sslterm.protocol.patterns import Allowed
from sslterm.protocol.tls import CertificateError, TlsError, TlsSession
from sslterm.relay.tally import BAD_CERTIFICATE, BAD_IDENTITY, EXPIRED, NO_CERTIFICATE, NOT_ALLOWED
from sslterm.settings import ClientAuth, Settings

if TYPE_CHECKING:
    from collections.abc import Callable


class Verdict(NamedTuple):
    """About one client."""

    peer: PeerIdentity | None
    """None if it showed no certificate, or one that names nobody."""
    denied: int
    """What to count it as, of the tally's `DENIALS`; 0 if it may call."""
    why: str
    """For the client and the log, if it may not."""


ANYBODY: Final = Verdict(None, 0, "")
"""Where nobody is asked, or who shows none is let in."""


class Gate:
    """Made once for a listener."""

    __slots__ = ("_allowed", "_clock", "_required")

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._allowed = Allowed(settings.allow)
        self._required = settings.client_auth is ClientAuth.REQUIRED
        self._clock = clock

    def judge(self, tls: TlsSession) -> Verdict:
        """Whether the client of this session, whose handshake is done, may call."""
        try:
            shown = tls.certificate()
            if shown is None:
                if self._required:
                    return Verdict(None, NO_CERTIFICATE, "the client showed no certificate")
                return ANYBODY
            peer = identity.read(*shown)
        except (TlsError, IdentityError) as error:
            return Verdict(None, BAD_IDENTITY, f"the client's certificate is refused: {error}")
        if self._clock() >= peer.not_after:
            return Verdict(peer, EXPIRED, f"the certificate of {peer.name} has expired")
        if not self._allowed.admits(peer.uri, peer.names):
            return Verdict(peer, NOT_ALLOWED, f"{peer.name} is not allowed to call")
        return Verdict(peer, 0, "")


def reason(error: CertificateError) -> int:
    """What a handshake that failed because of the client's certificate counts as."""
    if error.missing:
        return NO_CERTIFICATE
    return EXPIRED if error.expired else BAD_CERTIFICATE
