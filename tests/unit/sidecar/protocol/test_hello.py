"""What a ClientHello asks for: that of a real client is read right, and any bytes give an answer or not yet."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.client import Client
from sslterm.protocol.hello import Hello, read

hello = Client.hello
NOTHING = Hello((), "")


def in_records(data: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes."""
    message = data[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(part).to_bytes(2) + part for part in parts)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["www.example.org", None])
@pytest.mark.parametrize("protocols", [("acme-tls/1",), ("h2", "http/1.1"), ("x",) * 50, ()])
def test_real_clients(protocols, name, newest):
    data = hello(*protocols, server_name=name, newest=newest)
    asked = Hello(tuple(each.encode() for each in protocols), name or "")

    assert read(data) == asked
    assert read(data + b"more") == asked
    for cut in range(len(data)):
        assert read(data[:cut]) is None


def test_a_hello_may_come_in_several_records_but_not_in_crumbs():
    data = hello("acme-tls/1")
    pieces = in_records(data, (len(data) - 5) // 7 + 1)

    assert read(pieces) == read(data)
    for cut in range(len(pieces)):
        assert read(pieces[:cut]) is None
    assert read(in_records(data, 3)) == NOTHING


@pytest.mark.parametrize("name", [b"a b", b"a\x00b", b"\xff" * 9, b"", b"a\r\n"])
def test_a_name_that_is_none(name):
    data = hello("h2", server_name="A" * 9)
    listed = b"\x00" + len(name).to_bytes(2) + name
    server_name = b"\x00\x00" + (len(listed) + 2).to_bytes(2) + len(listed).to_bytes(2) + listed
    body = data[9:]
    at = body.index(b"\x00\x00\x00\x0e\x00\x0c\x00\x00\x09" + b"A" * 9)
    extensions = body[at - 2 : at].hex()
    rest = server_name + body[at + 18 :]
    body = body[: at - 2] + len(rest).to_bytes(2) + rest
    message = b"\x01" + len(body).to_bytes(3) + body

    assert int(extensions, 16) == len(data) - 9 - at  # it is the first extension: what is before is their length
    assert read(data[:3] + len(message).to_bytes(2) + message) == Hello((b"h2",), "")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00\x00\x05\x01\x00\x00\x01\x00",
        b"\x15\x03\x01\x00\x02\x01\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x40\x01\x00",
    ],
    ids=[
        "plain HTTP",
        "SSL 2",
        "an alert",
        "an empty record",
        "too long a record",
        "a ServerHello",
        "too long a hello",
    ],
)
def test_what_is_no_client_hello_offers_nothing(data):
    assert read(data) == NOTHING


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data, begun):
    if begun:
        body = b"\x01" + len(data).to_bytes(3) + data
        data = b"\x16\x03\x01" + len(body).to_bytes(2) + body

    assert isinstance(read(data), Hello | None)


@given(st.data())
def test_a_hello_that_was_tampered_with(data):
    good = bytearray(hello("h2", "acme-tls/1"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))

    assert isinstance(read(bytes(good)), Hello | None)
