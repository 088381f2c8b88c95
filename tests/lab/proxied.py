"""A second, strict reader of PROXY protocol headers (version 2), and a maker of both versions: by the specification."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from lab.backend import Peer

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


@dataclass(frozen=True)
class Proxied:
    source: tuple[str, int]
    destination: tuple[str, int]
    fields: dict[int, bytes]

    @property
    def client(self) -> int:
        """Bits: 1 by TLS, 2 a certificate in this connection, 4 one in this session."""
        return self.fields[0x20][0]

    @property
    def verify(self) -> int:
        """0 for a certificate that was shown and verified."""
        return struct.unpack(">I", self.fields[0x20][1:5])[0]

    @property
    def details(self) -> dict[int, bytes]:
        """What is said of TLS."""
        return split(self.fields[0x20][5:])


def split(data: bytes) -> dict[int, bytes]:
    """TLVs, each of which comes once."""
    found: dict[int, bytes] = {}
    while data:
        kind, size = struct.unpack(">BH", data[:3])
        assert kind not in found, "twice"
        assert len(data) >= 3 + size, "cut short"
        found[kind], data = data[3 : 3 + size], data[3 + size :]
    return found


def receive(peer: Peer) -> Proxied:
    """The header that a connection begins with."""
    assert peer.exactly(12) == SIGNATURE
    command, family, size = struct.unpack(">BBH", peer.exactly(4))
    assert 16 + size <= 536, "longer than receivers have to take"
    content = peer.exactly(size)
    assert command == 0x21, "PROXY, version 2"
    kind, width = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}[family]
    source, destination = (socket.inet_ntop(kind, content[at : at + width]) for at in (0, width))
    source_port, destination_port = struct.unpack(">HH", content[2 * width : 2 * width + 4])
    fields = split(content[2 * width + 4 :])
    return Proxied((source, source_port), (destination, destination_port), fields)


def line(host: str = "192.0.2.7", port: int = 4711, to: str = "198.51.100.1", to_port: int = 443) -> bytes:
    """A header of version 1."""
    kind = "TCP6" if ":" in host else "TCP4"
    return f"PROXY {kind} {host} {to} {port} {to_port}\r\n".encode()


def binary(host: str = "192.0.2.7", port: int = 4711, to: str = "198.51.100.1", fields: bytes = b"") -> bytes:
    """A header of version 2."""
    kind, family = (socket.AF_INET6, 0x21) if ":" in host else (socket.AF_INET, 0x11)
    content = socket.inet_pton(kind, host) + socket.inet_pton(kind, to) + struct.pack(">HH", port, 443) + fields
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(content)) + content


LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
"""The proxy speaks for itself."""
