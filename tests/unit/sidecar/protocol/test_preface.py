"""Before TLS: header and ClientHello are found however they are split, and not a byte of the rest is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.client import Client
from sslterm.protocol.preface import Preface
from sslterm.protocol.proxy import Caller, ProxyError

hello = Client.hello
REAL = Caller("203.0.113.9", 99, "127.0.0.1", 443)
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"


def taken(preface: Preface) -> bytes:
    buffer = bytearray(65536)
    try:
        count = preface.take_into(buffer)
    except BlockingIOError:
        return b""
    return bytes(buffer[:count])


@pytest.mark.parametrize("probing", [False, True])
@pytest.mark.parametrize("protocols", [("acme-tls/1",), ("http/1.1",)])
@given(data=st.data())
def test_any_split(probing, protocols, data):
    whole = LINE + hello(*protocols)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    preface = Preface(REAL, headed=True, hello=probing)
    rest = b""
    ready = False
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        if ready:
            rest += whole[begin:end]
        else:
            ready = preface.feed(whole[begin:end])

    assert ready
    assert taken(preface) + rest == whole[len(LINE) :]
    assert taken(preface) == b""
    assert preface.caller[:2] == ("192.0.2.7", 4711)
    assert preface.probes is (probing and protocols == ("acme-tls/1",))
    assert preface.server_name == ("localhost" if probing else "")


def test_a_header_is_read_only_where_one_must_be():
    preface = Preface(REAL, headed=False, hello=True)

    assert preface.feed(LINE)
    assert preface.caller == REAL
    assert taken(preface) == LINE


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"])
def test_a_header_that_says_nothing_of_the_caller(header):
    preface = Preface(REAL, headed=True, hello=False)

    assert preface.feed(header + b"rest")
    assert preface.caller == REAL
    assert taken(preface) == b"rest"


def test_a_header_must_be_there():
    with pytest.raises(ProxyError, match="does not begin with a header"):
        Preface(REAL, headed=True, hello=False).feed(hello())
