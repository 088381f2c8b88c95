"""Header fields: names, control characters, trailers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sslterm.protocol import fields
from sslterm.protocol.fields import (
    _KNOWN_LIMIT,
    SPECIAL,
    TOKEN,
    Kind,
    ProtocolError,
    check_characters,
    check_trailer,
    field_name,
)


@pytest.mark.parametrize(
    "name",
    [b"", b" ", b"a b", b"Content-Length ", b" Content-Length", b"a\tb", b"a:b", b"a(b", b"\xe9", b"a\x00b", b"a\x7f"],
)
def test_what_is_no_token_is_no_name(name):
    with pytest.raises(ProtocolError) as refusal:
        field_name(name)

    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"content-LENGTH", Kind.LENGTH),
        (b"X-Forwarded-For", Kind.FORWARDED_FOR),
        (b"X_Forwarded_For", Kind.IDENTITY),
        (b"X-Forwarded_For", Kind.IDENTITY),
        (b"x_real_ip", Kind.IDENTITY),
        (b"Transfer_Encoding", Kind.IDENTITY),
        (b"Content_Length", Kind.IDENTITY),
        (b"Client_Cert", Kind.IDENTITY),
        (b"X_Forwarded_Client_Cert", Kind.IDENTITY),
        (b"Proxy", Kind.IDENTITY),
        (b"X.Forwarded.For", Kind.IDENTITY),
        (b"X_Forwarded_User", Kind.IDENTITY),
        (b"X-Forwarded-Tls-Client-Cert", Kind.IDENTITY),
        (b"X-SSL-Client-Verify", Kind.IDENTITY),
        (b"Ssl_Client_S_Dn", Kind.IDENTITY),
        (b"X-Forwarded-Prefix", Kind.FORWARDED),
        (b"X-Forwarded-User", Kind.FORWARDED),
        (b"True-Client-IP", Kind.FORWARDED),
        (b"X_Own_Header", None),
        (b"Content-Type", None),
    ],
)
def test_a_name_that_imitates_another_is_never_passed_on(name, kind):
    assert SPECIAL.get(field_name(name)) == kind
    assert SPECIAL.get(field_name(name)) == kind, "and the same when it is known already"


def test_names_that_clients_make_up_do_not_pile_up_nor_shut_out_others():
    for number in range(3 * _KNOWN_LIMIT):
        field_name(b"x-%d" % number)
    field_name(b"X-Newcomer")

    assert len(fields._KNOWN) <= _KNOWN_LIMIT
    assert b"X-Newcomer" in fields._KNOWN


@given(st.binary(max_size=40))
def test_a_name_is_a_token_in_lower_case_or_an_error(name):
    try:
        lower = field_name(name)
    except ProtocolError:
        assert not name or set(name) - set(TOKEN)
    else:
        assert lower in (name.lower(), b"proxy", b"x-forwarded-")


@given(st.binary(max_size=20))
@example(b"a\r")
@example(b"\n")
@example(b"a\tb")
def test_a_line_has_no_control_characters_but_tabs(line):
    sound = not any(byte in line for byte in (*range(9), *range(10, 32), 127))
    try:
        check_characters(line)
    except ProtocolError:
        assert not sound
    else:
        assert sound


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        (b"Expires: never", True),
        (b"Server-Timing:", True),
        (b"Content-Length: 5", False),
        (b"Transfer-Encoding: chunked", False),
        (b"Host: x", False),
        (b"X-Forwarded-For: 1.2.3.4", False),
        (b"Client-Cert: me", False),
        (b"x_forwarded_for: 1.2.3.4", False),
        (b"Connection: close", False),
    ],
)
def test_trailers_of_framing_routing_and_identity_are_dropped(line, passed):
    assert check_trailer(line) is passed


@pytest.mark.parametrize("line", [b"no colon", b" folded: x", b"a : b", b"a: \x00", b"a: b\rc: d", b": x"])
def test_a_malformed_trailer_is_an_error(line):
    with pytest.raises(ProtocolError):
        check_trailer(line)
