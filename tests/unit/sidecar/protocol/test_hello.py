"""What a ClientHello offers: any bytes give yes, no or not yet, and those of a real client the right one."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.protocol.hello import offers

ACME = b"acme-tls/1"


def hello(*protocols: str, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(list(protocols))
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="www.example.org").do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes."""
    message = data[5:]
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(data[:3] + len(part).to_bytes(2) + part for part in parts)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("protocols", "answer"),
    [
        (("acme-tls/1",), True),
        (("h2", "acme-tls/1", "http/1.1"), True),
        (("h2", "http/1.1"), False),
        (("acme-tls/10", "acme-tls/"), False),
        ((), False),
    ],
)
def test_real_clients(protocols, answer, newest):
    data = hello(*protocols, newest=newest)

    assert offers(data, ACME) is answer
    assert offers(data + b"more", ACME) is answer
    for cut in range(len(data)):
        assert offers(data[:cut], ACME) is None


def test_a_hello_may_come_in_several_records_but_not_in_crumbs():
    data = hello("acme-tls/1")
    pieces = in_records(data, (len(data) - 5) // 7 + 1)

    assert offers(pieces, ACME) is True
    for cut in range(len(pieces)):
        assert offers(pieces[:cut], ACME) is None
    assert offers(in_records(data, 3), ACME) is False


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
    assert offers(data, ACME) is False


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data, begun):
    if begun:
        body = b"\x01" + len(data).to_bytes(3) + data
        data = b"\x16\x03\x01" + len(body).to_bytes(2) + body

    assert offers(data, ACME) in (True, False, None)


@given(st.data())
def test_a_hello_that_was_tampered_with(data):
    good = bytearray(hello("h2", "acme-tls/1"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))

    assert offers(bytes(good), ACME) in (True, False, None)
