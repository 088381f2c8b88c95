"""
The PROXY protocol: who called, said by a proxy before all else. Both versions are read, the second is written.

HAProxy's proxy-protocol.txt is the specification. It is never guessed whether a header is there: whoever asks knows
that one must be, because anybody can write one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL: Final = SIGNATURE + b"\x20\x00\x00\x00"
"""A header by which a proxy speaks for itself."""
_FIRST: Final = b"PROXY "
_LONGEST_LINE: Final = 107
"""Bytes of a header of version 1 with its CR LF (section 2.1)."""
_LONGEST: Final = 4096
"""
Bytes of a header of version 2, as nginx has it. Senders stay within 536 (section 2), unless they say much of TLS.
"""
_HEAD: Final = 16
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_SIZES: Final = (0, 12, 36, 216)
"""Bytes of both addresses, by family: unspecified, IPv4, IPv6, unix."""


class ProxyError(Exception):
    """A header that is none; `str()`: why, for the log."""


class Caller(NamedTuple):
    """The two ends of the connection that a proxy accepted."""

    host: str
    port: int
    to_host: str
    to_port: int


class Header(NamedTuple):
    """What was read."""

    caller: Caller | None
    """None where the proxy speaks for itself (LOCAL), or does not know."""
    size: int
    """Bytes of the header; what follows is the connection's own."""


def read(data: bytes) -> Header | None:
    """The header at the beginning of `data`; None if more of it has to come first. Raises ProxyError."""
    if data[:12] == SIGNATURE[: len(data)]:
        return _read_binary(data) if len(data) >= _HEAD else None
    if data[:6] == _FIRST[: len(data)]:
        return _read_line(data)
    raise ProxyError("it does not begin with a header")


def _read_line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise ProxyError(f"no end of line within {_LONGEST_LINE} bytes")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(None, end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyError("not PROXY, TCP4 or TCP6, two addresses, two ports")
    kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
    try:
        source, destination = (_address(kind(word.decode("ascii"))) for word in words[2:4])
    except ValueError:
        raise ProxyError(f"an address that is none of {words[1].decode()}") from None
    return Header(Caller(source, _port(words[4]), destination, _port(words[5])), end + 2)


def _port(word: bytes) -> int:
    if not (word.isdigit() and len(word) <= 5 and int(word) < 65536 and (word == b"0" or word[:1] != b"0")):
        raise ProxyError("a port that is none")
    return int(word)


def _address(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(address)
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def _read_binary(data: bytes) -> Header | None:
    command, family = data[12], data[13]
    size = _HEAD + int.from_bytes(data[14:16])
    if command not in (0x20, 0x21):
        raise ProxyError("a version or command that is none")
    if family >> 4 >= len(_SIZES) or family & 15 > 2:
        raise ProxyError("an address family or protocol that is none")
    if size > _LONGEST:
        raise ProxyError(f"longer than {_LONGEST} bytes")
    if len(data) < size:
        return None
    if command == 0x20:  # LOCAL: the proxy's own, a health check mostly; what else it says is to be skipped
        return Header(None, size)
    addresses = _SIZES[family >> 4]
    if size < _HEAD + addresses:
        raise ProxyError("too short for its addresses")
    _check_fields(data[_HEAD + addresses : size])
    # Datagrams and unix sockets are no connections like ours: as HAProxy has it, the addresses are then the real ones.
    if family == _TCP4:
        source, destination = _address(IPv4Address(data[16:20])), _address(IPv4Address(data[20:24]))
    elif family == _TCP6:
        source, destination = _address(IPv6Address(data[16:32])), _address(IPv6Address(data[32:48]))
    else:
        return Header(None, size)
    ports = data[_HEAD + addresses - 4 :]
    return Header(Caller(source, int.from_bytes(ports[:2]), destination, int.from_bytes(ports[2:4])), size)


def _check_fields(data: bytes) -> None:
    """None of the fields (TLVs) matters to us; but whoever reads them otherwise would read another connection."""
    at = 0
    while at < len(data):
        at += 3 + int.from_bytes(data[at + 1 : at + 3])
        if at > len(data):
            raise ProxyError("a field that is cut short")


def write(caller: Caller, fields: list[tuple[int, bytes]]) -> bytes:
    """
    A header of version 2 that says who called, and `fields` (TLVs), by type.

    Raises ProxyError where it cannot be said: half of it would be taken for the whole.
    """
    source, destination = ip_address(caller.host.partition("%")[0]), ip_address(caller.to_host.partition("%")[0])
    if source.version == destination.version:
        ends = source.packed + destination.packed
    else:
        ends = _wide(source) + _wide(destination)
    content = ends + caller.port.to_bytes(2) + caller.to_port.to_bytes(2)
    content += b"".join(field(kind, value) for kind, value in fields)
    if _HEAD + len(content) > _LONGEST:
        raise ProxyError(f"it would be longer than {_LONGEST} bytes")
    family = _TCP4 if len(ends) == _SIZES[1] - 4 else _TCP6
    return SIGNATURE + bytes((0x21, family)) + len(content).to_bytes(2) + content


def field(kind: int, value: bytes) -> bytes:
    """One field (TLV). Raises ProxyError."""
    if len(value) > _LONGEST:
        raise ProxyError(f"a field would be longer than {_LONGEST} bytes")
    return bytes((kind,)) + len(value).to_bytes(2) + value


def _wide(address: IPv4Address | IPv6Address) -> bytes:
    return address.packed if address.version == 6 else b"\x00" * 10 + b"\xff\xff" + address.packed
