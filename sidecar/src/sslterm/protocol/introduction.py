"""
How a backend in tcp mode is told who calls: a PROXY header with what TLS knows (proxy-protocol.txt, section 2.2).

It comes before the first byte of the client's, and also where the client never says one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sslterm.protocol import proxy

if TYPE_CHECKING:
    from sslterm.protocol.identity import PeerIdentity
    from sslterm.protocol.preface import Preface
    from sslterm.protocol.tls import TlsSession

_ALPN: Final = 0x01
_AUTHORITY: Final = 0x02
_SSL: Final = 0x20
_SSL_VERSION: Final = 0x21
_SSL_CN: Final = 0x22
_SSL_CIPHER: Final = 0x23
_BY_TLS: Final = 0x01
_CERTIFICATE_NOW: Final = 0x02
_CERTIFICATE_IN_SESSION: Final = 0x04


def introduce(preface: Preface, tls: TlsSession, peer: PeerIdentity | None, spiffe_type: int) -> bytes:
    """
    The header for one connection; `spiffe_type`: of the field that holds a SPIFFE ID. Raises ProxyError.

    The certificate itself is not in it: with one, headers get longer than receivers read (nginx: 4 KiB).
    """
    fields: list[tuple[int, bytes]] = []
    if tls.alpn:
        fields.append((_ALPN, tls.alpn.encode()))
    if preface.server_name:
        fields.append((_AUTHORITY, preface.server_name.encode()))
    client = _BY_TLS
    if peer is not None:
        client |= _CERTIFICATE_IN_SESSION if tls.resumed else _CERTIFICATE_NOW | _CERTIFICATE_IN_SESSION
    verify = 0 if peer is not None else 1  # 0: "presented a certificate and it was successfully verified"
    details = bytes((client,)) + verify.to_bytes(4) + proxy.field(_SSL_VERSION, tls.version.encode())
    if peer is not None and peer.common_name:
        details += proxy.field(_SSL_CN, peer.common_name.encode())
    details += proxy.field(_SSL_CIPHER, tls.cipher.encode())
    fields.append((_SSL, details))
    if peer is not None and peer.uri:
        fields.append((spiffe_type, peer.uri.encode()))
    return proxy.write(preface.caller, fields)
