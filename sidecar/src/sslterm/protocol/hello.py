"""
What a TLS ClientHello asks for, read before OpenSSL sees it: a server name, and application protocols.

A server that answers tls-alpn-01 (RFC 8737) shows another certificate to those who offer `acme-tls/1`, and Python's
`ssl` tells of the offer only when the certificate is chosen; of the name, only to who chooses it. Nothing else is read
here, and what is malformed asks for nothing: OpenSSL finds the words for it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_NAME: Final = re.compile(rb"[A-Za-z0-9._-]{1,255}")
_RECORD: Final = 16384
"""Most bytes in a record of plaintext (RFC 8446, section 5.1)."""
_LONGEST: Final = 16384
"""Bytes of a ClientHello that is looked into. One with a post-quantum key share has 2 KiB."""
_MOST_RECORDS: Final = 8
"""In how many records it may come: each look begins anew, and must not cost much."""


class _MalformedError(Exception):
    pass


class Hello(NamedTuple):
    """What was asked for."""

    protocols: tuple[bytes, ...]
    """Application protocols (ALPN)."""
    server_name: str
    """Empty without one, and for one that is no name."""


_NOTHING: Final = Hello((), "")


def read(data: bytes) -> Hello | None:
    """What the ClientHello at the beginning of `data` asks for; None if more of it has to come first."""
    message = b""
    at = 0
    for _ in range(_MOST_RECORDS):
        record = data[at : at + 5]
        if (record and record[0] != _HANDSHAKE) or (len(record) > 1 and record[1] != 3):
            return _NOTHING
        if len(record) < 5:
            return None
        size = int.from_bytes(record[3:5])
        if not 0 < size <= _RECORD:
            return _NOTHING
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message and message[0] != _CLIENT_HELLO:
            return _NOTHING
        if len(message) >= 4:
            length = int.from_bytes(message[1:4])
            if length > _LONGEST:
                return _NOTHING
            if len(message) >= 4 + length:
                try:
                    return _asked(message[4 : 4 + length])
                except _MalformedError:
                    return _NOTHING
        if at > len(data):
            return None
    return _NOTHING


def _asked(body: bytes) -> Hello:
    """What the body of a ClientHello holds (RFC 8446, section 4.1.2)."""
    at = 2 + 32  # legacy_version, random
    for width in (1, 2, 1):  # legacy_session_id, cipher_suites, legacy_compression_methods
        _, at = _vector(body, at, width)
    if at == len(body):  # up to TLS 1.2 there may be no extensions
        return _NOTHING
    extensions, at = _vector(body, at, 2)
    if at != len(body):
        raise _MalformedError
    protocols: tuple[bytes, ...] = ()
    server_name = ""
    at = 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2])
        content, at = _vector(extensions, at + 2, 2)
        if kind == _ALPN:
            protocols = _protocols(content)
        elif kind == _SERVER_NAME:
            server_name = _name(content)
    return Hello(protocols, server_name)


def _name(content: bytes) -> str:
    """RFC 6066, section 3: a list for historical reasons, of one name."""
    listed, end = _vector(content, 0, 2)
    name, last = _vector(listed, 1, 2)
    if end != len(content) or last != len(listed) or listed[0] != 0 or not _NAME.fullmatch(name):
        return ""
    return name.decode("ascii")


def _protocols(content: bytes) -> tuple[bytes, ...]:
    """RFC 7301, section 3.1."""
    listed, end = _vector(content, 0, 2)
    if end != len(content):
        raise _MalformedError
    names = []
    at = 0
    while at < len(listed):
        name, at = _vector(listed, at, 1)
        names.append(name)
    return tuple(names)


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """The bytes after a length of `width` bytes at `at`, and where they end."""
    begin = at + width
    end = begin + int.from_bytes(data[at:begin])
    if begin > len(data) or end > len(data):
        raise _MalformedError
    return data[begin:end], end
