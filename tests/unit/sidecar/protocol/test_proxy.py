"""PROXY protocol headers: the right ones are read, the others refused, whatever they hold."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.protocol.proxy import SIGNATURE, Caller, Header, ProxyError, read

V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + b"\x12\x67\x01\xbb"
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + V4[8:]
MAPPED = b"\x00" * 10 + b"\xff\xff" + V4[:4] + b"\x00" * 10 + b"\xff\xff" + V4[4:8] + V4[8:]
FOUR = Caller("192.0.2.7", 4711, "198.51.100.1", 443)
SIX = Caller("2001:db8::7", 4711, "2001:db8::1", 443)


def binary(content: bytes = V4, family: int = 0x11, command: int = 0x21, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2) + content


GOOD = {
    "1 TCP4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", FOUR),
    "1 TCP6": (b"PROXY TCP6 2001:db8::7 2001:DB8::1 4711 443\r\n", SIX),
    "1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 443\r\n", FOUR),
    "1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "1 UNKNOWN with more": (b"PROXY UNKNOWN ffff:f::1 ffff::2 65535 65535\r\n", None),
    "1 longest": (b"PROXY TCP6 " + b" ".join([b"ffff" + b":ffff" * 7] * 2) + b" 65535 65535\r\n", Caller(
        *["ffff" + ":ffff" * 7, 65535] * 2)),
    "2 TCP4": (binary(), FOUR),
    "2 TCP6": (binary(V6, 0x21), SIX),
    "2 mapped": (binary(MAPPED, 0x21), FOUR),
    "2 with fields": (binary(V4 + b"\x02\x00\x03www" + b"\x04\x00\x00"), FOUR),
    "2 LOCAL": (binary(b"", 0, 0x20), None),
    "2 LOCAL with anything": (binary(b"anything", 0x11, 0x20), None),
    "2 unspecified": (binary(b"\x04\x00\x01x", 0), None),
    "2 datagrams": (binary(V4, 0x12), None),
    "2 unix": (binary(b"/run/x".ljust(108, b"\0") * 2, 0x31), None),
}  # fmt: skip


@pytest.mark.parametrize(("data", "caller"), GOOD.values(), ids=GOOD.keys())
def test_headers_that_are_understood(data, caller):
    assert read(data) == Header(caller, len(data))
    assert read(data + b"\x16\x03\x01") == Header(caller, len(data))
    for cut in range(len(data)):
        assert read(data[:cut]) is None


BAD = {
    "TLS": b"\x16\x03\x01\x02\x00",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "lower case": b"proxy TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "no protocol": b"PROXY \r\n",
    "UDP": b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n",
    "a word too few": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
    "a word too many": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 x\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.1 4711 443\r\n",
    "a tab": b"PROXY TCP4\t192.0.2.7 198.51.100.1 4711 443\r\n",
    "the other family": b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
    "octal": b"PROXY TCP4 192.0.02.7 198.51.100.1 4711 443\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 2001:db8::1 4711 443\r\n",
    "not ASCII": b"PROXY TCP4 192.0.2.\xb2 198.51.100.1 4711 443\r\n",
    "a sign": b"PROXY TCP4 192.0.2.7 198.51.100.1 +4711 443\r\n",
    "a leading zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 04711 443\r\n",
    "too great a port": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n",
    "a bare LF": b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n" + b" " * 80,
    "no end": b"PROXY UNKNOWN" + b" " * 94,
    "version 1 in binary": binary(command=0x11),
    "an unknown command": binary(command=0x22),
    "an unknown family": binary(family=0x41),
    "an unknown transport": binary(family=0x13),
    "too short": binary(V4[:-1]),
    "too short for IPv6": binary(V4, 0x21),
    "too long": binary(b"", 0, size=4081),
    "half a field": binary(V4 + b"\x02\x00"),
    "a field that reaches too far": binary(V4 + b"\x02\x00\x04www"),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_headers_that_are_refused(data):
    with pytest.raises(ProxyError):
        read(data)


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_more_bytes_make_no_bad_header_good(data):
    """Byte by byte: not yet, until it is refused; then it stays so."""
    for cut in range(len(data)):
        try:
            assert read(data[:cut]) is None
        except ProxyError:
            break
    with pytest.raises(ProxyError):
        read(data + b"\r\n" * 60)


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, binary(b"", 0, size=99)[:16]])
)
def test_any_bytes(data, begin):
    with suppress(ProxyError):
        found = read(begin + data)

        assert found is None or 0 < found.size <= len(begin + data)
