"""The header by which a backend learns who calls: read by a reader of its own, and made whole or not at all."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.backend import Peer
from lab.proxied import Proxied, receive
from sslterm.protocol.identity import read as identify
from sslterm.protocol.introduction import introduce
from sslterm.protocol.preface import Preface
from sslterm.protocol.proxy import Caller, Header, ProxyError, field, read, write

FOUR = Caller("192.0.2.7", 4711, "198.51.100.1", 443)
URI = "spiffe://td/ns/shop/svc/web"


def session(alpn=None, resumed=False):
    return SimpleNamespace(alpn=alpn, version="TLSv1.3", cipher="TLS_AES_128_GCM_SHA256", resumed=resumed)


def peer(name="laptop", uri=URI):
    alternatives = (("URI", uri),) if uri else ()
    subject = ((("commonName", name),),) if name else ()
    said = {"subject": subject, "subjectAltName": alternatives, "notAfter": "Jan  5 09:34:43 2030 GMT"}
    return identify(said, b"der")


def received(data: bytes) -> Proxied:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        reader = Peer(far)
        found = receive(reader)
        assert reader.rest() == b""
    return found


def preface(caller=FOUR, server_name=""):
    made = Preface(caller, headed=False, hello=True)
    made.server_name = server_name
    return made


def test_without_a_certificate():
    found = received(introduce(preface(), session(), None, 0xD0))

    assert found.source == ("192.0.2.7", 4711)
    assert found.destination == ("198.51.100.1", 443)
    assert found.fields.keys() == {0x20}
    assert found.client == 1
    assert found.verify != 0
    assert found.details == {0x21: b"TLSv1.3", 0x23: b"TLS_AES_128_GCM_SHA256"}


@pytest.mark.parametrize(("resumed", "client"), [(False, 7), (True, 5)])
def test_with_all_there_is_to_say(resumed, client):
    found = received(introduce(preface(server_name="www.example"), session("http/1.1", resumed), peer(), 0xE0))

    assert found.fields.keys() == {0x01, 0x02, 0x20, 0xE0}
    assert (found.fields[0x01], found.fields[0x02], found.fields[0xE0]) == (b"http/1.1", b"www.example", URI.encode())
    assert (found.client, found.verify) == (client, 0)
    assert found.details == {0x21: b"TLSv1.3", 0x22: b"laptop", 0x23: b"TLS_AES_128_GCM_SHA256"}


def test_a_certificate_with_neither():
    found = received(introduce(preface(), session(), peer("", ""), 0xD0))

    assert found.fields.keys() == {0x20}
    assert (found.client, found.verify) == (7, 0)
    assert found.details.keys() == {0x21, 0x23}


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 70000, "é" * 2000])
def test_what_cannot_be_said_whole_is_not_said(name):
    with pytest.raises(ProxyError, match="longer than 4096 bytes"):
        introduce(preface(), session(), peer(name), 0xD0)


@pytest.mark.parametrize(
    ("caller", "source", "destination"),
    [
        (Caller("2001:db8::7", 1, "2001:db8::1", 2), "2001:db8::7", "2001:db8::1"),
        (Caller("fe80::7%eth0", 1, "fe80::1%eth0", 2), "fe80::7", "fe80::1"),
        (Caller("192.0.2.7", 1, "2001:db8::1", 2), "::ffff:192.0.2.7", "2001:db8::1"),
        (Caller("2001:db8::7", 1, "192.0.2.1", 2), "2001:db8::7", "::ffff:192.0.2.1"),
    ],
)
def test_addresses(caller, source, destination):
    found = received(write(caller, []))

    assert (found.source, found.destination) == ((source, 1), (destination, 2))


ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)).filter(lambda pair: not any(a.ipv4_mapped for a in pair)),
)
PORTS = st.integers(0, 65535)


@given(ADDRESSES, PORTS, PORTS, st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=200)), max_size=5))
def test_what_is_written_can_be_read(addresses, port, to_port, fields):
    caller = Caller(str(addresses[0]), port, str(addresses[1]), to_port)
    header = write(caller, fields)

    assert read(header + b"rest") == Header(caller, len(header))
    assert header.endswith(b"".join(field(kind, value) for kind, value in fields))
