"""
Whether a TLS ClientHello offers an application protocol, read before OpenSSL sees it.

A server that answers tls-alpn-01 (RFC 8737) shows another certificate to those who offer `acme-tls/1`, and Python's
`ssl` tells of the offer only when the certificate is chosen. Nothing else is read from a ClientHello here, and what is
malformed offers nothing: OpenSSL finds the words for it.
"""

from __future__ import annotations

from typing import Final

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_ALPN: Final = 16
_RECORD: Final = 16384
"""Most bytes in a record of plaintext (RFC 8446, section 5.1)."""
_LONGEST: Final = 16384
"""Bytes of a ClientHello that is looked into. One with a post-quantum key share has 2 KiB."""
_MOST_RECORDS: Final = 8
"""In how many records it may come: each look begins anew, and must not cost much."""


class _MalformedError(Exception):
    pass


def offers(data: bytes, protocol: bytes) -> bool | None:
    """Whether the ClientHello at the beginning of `data` offers `protocol`; None if more of it has to come first."""
    message = b""
    at = 0
    for _ in range(_MOST_RECORDS):
        record = data[at : at + 5]
        if (record and record[0] != _HANDSHAKE) or (len(record) > 1 and record[1] != 3):
            return False
        if len(record) < 5:
            return None
        size = int.from_bytes(record[3:5])
        if not 0 < size <= _RECORD:
            return False
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message and message[0] != _CLIENT_HELLO:
            return False
        if len(message) >= 4:
            length = int.from_bytes(message[1:4])
            if length > _LONGEST:
                return False
            if len(message) >= 4 + length:
                return _offers(message[4 : 4 + length], protocol)
        if at > len(data):
            return None
    return False


def _offers(body: bytes, protocol: bytes) -> bool:
    try:
        return protocol in _protocols(body)
    except _MalformedError:
        return False


def _protocols(body: bytes) -> list[bytes]:
    """What a ClientHello offers (RFC 8446, section 4.1.2; RFC 7301, section 3.1)."""
    at = 2 + 32  # legacy_version, random
    for width in (1, 2, 1):  # legacy_session_id, cipher_suites, legacy_compression_methods
        _, at = _vector(body, at, width)
    if at == len(body):  # up to TLS 1.2 there may be no extensions
        return []
    extensions, at = _vector(body, at, 2)
    if at != len(body):
        raise _MalformedError
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2])
        content, at = _vector(extensions, at + 2, 2)
        if kind == _ALPN:
            return _names(content)
    return []


def _names(content: bytes) -> list[bytes]:
    listed, end = _vector(content, 0, 2)
    if end != len(content):
        raise _MalformedError
    names = []
    at = 0
    while at < len(listed):
        name, at = _vector(listed, at, 1)
        names.append(name)
    return names


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """The bytes after a length of `width` bytes at `at`, and where they end."""
    begin = at + width
    end = begin + int.from_bytes(data[at:begin])
    if begin > len(data) or end > len(data):
        raise _MalformedError
    return data[begin:end], end
