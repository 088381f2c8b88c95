"""Who a certificate names, and how the backend is told: nothing in a certificate can be read as something else."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.protocol.identity import IdentityError, header_fields, printable, read

URI = "spiffe://td.example/ns/shop/svc/web"
DER = b"0\x82certificate"


def peer(*alternatives, subject=(), **more):
    return {
        "subject": tuple(((pair,) if isinstance(pair[0], str) else pair) for pair in subject),
        "subjectAltName": alternatives,
        "notAfter": "Jan  5 09:34:43 2030 GMT",
    } | more


CN = ("commonName", "laptop")


def test_all_that_it_says():
    found = read(
        peer(
            ("DNS", "web.shop"), ("DNS", "web"), ("URI", URI), ("IP Address", "10.0.0.1"),
            subject=[("organizationName", "Shop"), CN],
        ),
        DER,
    )  # fmt: skip

    assert found.uri == URI
    assert found.dns == found.names == ("web.shop", "web")
    assert found.common_name == "laptop"
    assert found.subject == "CN=laptop,O=Shop"
    assert found.sha256 == hashlib.sha256(DER).hexdigest()
    assert found.not_after == 1893836083.0
    assert found.der == DER
    assert found.name == URI


@pytest.mark.parametrize(
    ("alternatives", "names"),
    [
        ([], ("laptop",)),
        ([("IP Address", "10.0.0.1"), ("email", "a@b")], ("laptop",)),
        ([("DNS", "web")], ("web",)),
        ([("URI", URI)], ()),
        ([("URI", "https://example.org/")], ()),
        ([("DNS", "*.shop")], ()),
        ([("DNS", "we\0b"), ("DNS", "web "), ("DNS", "wéb"), ("DNS", ""), ("DNS", "a..b"), ("DNS", "ok")], ("ok",)),
        ([("DNS", "a" * 64)], ()),
    ],
)
def test_the_common_name_counts_only_where_there_is_no_other(alternatives, names):
    assert read(peer(*alternatives, subject=[CN]), DER).names == names


@pytest.mark.parametrize("name", ["a b", "web\n", "w,b", "*", ""])
def test_a_common_name_that_is_no_name(name):
    assert read(peer(subject=[("commonName", name)]), DER).names == ()


@pytest.mark.parametrize(
    "uris",
    [
        [URI, URI],
        [URI, "spiffe://td.example/other"],
        [URI, "https://example.org"],
        ["https://example.org", URI],
        ["spiffe://td.example"],
        ["spiffe://td.example/"],
        ["spiffe://td.example/a//b"],
        ["spiffe://td.example/a/"],
        ["spiffe://td.example/a/../b"],
        ["spiffe://td.example/./b"],
        ["spiffe://TD.example/a"],
        ["SPIFFE://td.example/a"],
        ["spiffe:td.example/a"],
        ["spiffe://td.example:8/a"],
        ["spiffe://u@td.example/a"],
        ["spiffe://td.example/a?b"],
        ["spiffe://td.example/a\0b"],
        ["spiffe://td.example/a\n"],
        ["spiffe://td.example/a;DNS=b"],
        ["spiffe://td.example/" + "a" * 2048],
    ],
)
def test_not_one_spiffe_id_is_refused(uris):
    with pytest.raises(IdentityError) as caught:
        read(peer(*(("URI", uri) for uri in uris)), DER)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_dots_within_a_segment_are_fine():
    assert read(peer(("URI", "spiffe://td/a..b/...")), DER).uri


@pytest.mark.parametrize(
    ("subject", "written"),
    [
        ([("countryName", "DE"), ("organizationName", "A, B"), CN], r"CN=laptop,O=A\, B,C=DE"),
        ([("commonName", 'a"b\\c')], r"CN=a\"b\\c"),
        ([("commonName", " #x ")], r"CN=\ #x\ "),
        ([("commonName", "#x")], r"CN=\#x"),
        ([("commonName", "a\r\nb")], r"CN=a\0D\0Ab"),
        ([("commonName", "é")], r"CN=\C3\A9"),
        ([(("commonName", "a"), ("userId", "b"))], "CN=a+UID=b"),
        ([("1.2.3.4", "x")], "1.2.3.4=x"),
        ([], ""),
    ],
)
def test_the_subject(subject, written):
    assert read(peer(subject=subject), DER).subject == written


def test_the_header_fields():
    identity = read(peer(("DNS", "web"), ("DNS", "a.b"), ("URI", URI), subject=[CN]), DER)

    assert header_fields(identity, "spiffe://td/own").split(b"\r\n") == [
        b"Client-Cert: :" + base64.b64encode(DER) + b":",
        b"X-Forwarded-Client-Cert: By=spiffe://td/own;Hash=" + identity.sha256.encode()
        + b';Subject="CN=laptop";URI=' + URI.encode() + b";DNS=web;DNS=a.b",
        b"",
    ]  # fmt: skip


@pytest.mark.parametrize("own", ["", "https://a,b;c", "spiffe://td/a;Hash=b"])
def test_without_a_spiffe_id_of_ours(own):
    assert b"X-Forwarded-Client-Cert: Hash=" in header_fields(read(peer(subject=[CN]), DER), own)


def test_what_is_too_long_is_left_out():
    large = read(peer(("DNS", "web"), ("URI", URI)), b"x" * 4609)
    assert header_fields(large, "").startswith(b"X-Forwarded-Client-Cert: Hash=")
    assert header_fields(read(peer(), b"x" * 4608), "").startswith(b"Client-Cert: :")
    many = header_fields(read(peer(*[("DNS", f"name-{n}") for n in range(400)], ("URI", URI), subject=[CN]), DER), "")
    assert many.endswith(f";URI={URI}\r\n".encode())
    assert b"Subject" not in many
    assert b"DNS" not in many


QUOTED = re.compile(rb'Hash=[0-9a-f]{64};Subject="(?:[^"\\]|\\.)*"(?:;DNS=[A-Za-z0-9_.-]+)*')


@given(st.lists(st.tuples(st.sampled_from(["commonName", "organizationName"]), st.text(max_size=40)), max_size=3),
       st.lists(st.text(max_size=20), max_size=3))  # fmt: skip
def test_nothing_in_a_certificate_breaks_out_of_its_field(subject, names):
    identity = read(peer(*(("DNS", name) for name in names), subject=subject), DER)
    certificate, details, end = header_fields(identity, "").split(b"\r\n")

    assert end == b""
    assert re.fullmatch(b"[ -~]+", certificate + details)
    assert QUOTED.fullmatch(details.removeprefix(b"X-Forwarded-Client-Cert: "))
    assert re.fullmatch("[!-~]{1,1100}", identity.name)


def test_the_name_in_logs():
    assert read(peer(("DNS", "web"), subject=[CN]), DER).name == "web"
    assert read(peer(subject=[CN]), DER).name == "laptop"
    assert read(peer(), DER).name == f"sha256:{hashlib.sha256(DER).hexdigest()}"
    assert printable('a b|"\\\x1b[31mé') == r"a\x20b\x7c\x22\x5c\x1b[31m\xe9"
    assert printable("x" * 300) == "x" * 256 + "..."
