"""
What is shown to a server that checks by TLS whether a name leads here (tls-alpn-01, RFC 8737).

Not a certificate for anybody else: such a context speaks `acme-tls/1` only, and the relay uses it for no client that
does not offer that.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALPN: Final = "acme-tls/1"


class Proof(NamedTuple):
    """For one name: a certificate made for this check, and its key, as PEM."""

    name: str
    chain: str
    key: str


def build(proofs: Sequence[Proof]) -> ssl.SSLContext | None:
    """A server context that shows whoever asks for a name the proof for it; None where there is nothing to prove."""
    contexts = {proof.name: _one(proof) for proof in proofs}
    if not contexts:
        return None

    def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        found = contexts.get((name or "").lower())
        if found is None:
            return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = found
        return None

    first = next(iter(contexts.values()))
    first.sni_callback = choose
    return first


def _one(proof: Proof) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([_ALPN])
    with os.fdopen(os.memfd_create("proof", os.MFD_CLOEXEC), "w", encoding="ascii") as file:
        file.write(proof.key + proof.chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
