"""What is answered to plain HTTP, from one request alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.protocol.fields import ProtocolError
from sslterm.protocol.http1 import read_request
from sslterm.redirect import respond

ANSWERS = {"token-1": "token-1.thumbprint"}


def answer(head: str, port: int = 443) -> str:
    return respond(read_request(head.encode("latin-1"), trusted=False), port, ANSWERS).decode("latin-1")


def test_port_443_goes_without_saying():
    head = "GET /x HTTP/1.1\r\nHost: site.example:80\r\n"

    assert "\r\nLocation: https://site.example/x\r\n" in answer(head)
    assert "\r\nLocation: https://site.example:8443/x\r\n" in answer(head, 8443)


@pytest.mark.parametrize("host", ["site.example", "other.example:80", ""])
def test_a_pending_challenge_is_answered_whatever_the_host(host):
    found = answer(f"GET /.well-known/acme-challenge/token-1 HTTP/1.1\r\nHost: {host}\r\n")

    assert found.startswith("HTTP/1.1 200 OK\r\n")
    assert found.endswith("\r\n\r\ntoken-1.thumbprint")


@pytest.mark.parametrize("token", ["", "token-2", "token-1/", "token-1?x", "../token-1"])
def test_any_other_challenge_is_not(token):
    found = answer(f"GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: a\r\n")

    assert found.startswith("HTTP/1.1 404 Not Found\r\n")


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_make_a_second_field_or_another_host(target, host):
    """Whatever is asked: one answer, whose Location is made of the host that was asked for."""
    head = b"GET /%b HTTP/1.1\r\nHost: %b\r\n" % (target, host)
    try:
        request = read_request(head, trusted=False)
    except ProtocolError:
        return
    fields = respond(request, 443, {}).decode("ascii").partition("\r\n\r\n")[0].split("\r\n")
    names = [each.partition(":")[0] for each in fields[1:]]
    where = [each for each in fields if each.startswith("Location: ")]

    assert names in (
        ["Content-Type", "Content-Length", "Connection"],
        ["Location", "Content-Type", "Content-Length", "Connection"],
    )
    if where:
        authority = where[0].removeprefix("Location: https://").partition("/")[0]
        assert (
            host.decode("ascii").strip(" \t").rpartition(":")[0] == authority or host.decode().strip(" \t") == authority
        )
