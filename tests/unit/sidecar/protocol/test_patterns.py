"""Who may call, by pattern: `*` within a segment, `**` across, and no pattern that takes long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.protocol.patterns import Allowed, Pattern

NOBODY = ("", ())


def dns(*names):
    return "", names


def spiffe(uri):
    return uri, ()


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("web", ["web", "WEB"], ["web2", "a.web", "we", ""]),
        ("WEB.shop", ["web.SHOP"], ["web", "shop"]),
        ("*.shop", ["web.shop", "x.shop"], ["shop", "a.b.shop", "web.shops", "web.shop.evil"]),
        ("web-*.shop", ["web-1.shop", "web-.shop"], ["web.shop", "web-1.2.shop"]),
        ("**.shop", ["web.shop", "a.b.shop"], ["shop", "a.shop.evil"]),
        ("**", ["web", "a.b.c"], []),
        ("web.*", ["web.shop"], ["web", "web.a.b", "xweb.shop"]),
        ("*.*.shop", ["a.b.shop"], ["b.shop", "a.b.c.shop"]),
        ("web.shop", ["web.shop"], ["webxshop"]),
    ],
)
def test_dns_names(pattern, yes, no):
    allowed = Allowed((pattern,))

    for name in yes:
        assert allowed.admits(*dns("other", name)), name
    for name in no:
        assert not allowed.admits(*dns("other.example", name)), name
    assert not allowed.admits(*NOBODY)
    assert not allowed.admits(*spiffe("spiffe://shop/web"))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "spiffe://td/ns/shop/svc/web",
            ["/ns/shop/svc/web"],
            ["/ns/shop/svc/WEB", "/ns/shop/svc/web/x", "/ns/shop/svc"],
        ),
        ("spiffe://td/ns/shop/svc/*", ["/ns/shop/svc/a"], ["/ns/shop/svc/a/b", "/ns/shop/svc", "/ns/other/svc/a"]),
        ("spiffe://td/ns/shop/svc/web-*", ["/ns/shop/svc/web-1"], ["/ns/shop/svc/web", "/ns/shop/svc/web-1/x"]),
        ("spiffe://td/ns/shop/**", ["/ns/shop/svc/a", "/ns/shop/x"], ["/ns/shop", "/ns/shop2/svc/a"]),
        ("spiffe://td/ns/*/svc/web", ["/ns/a/svc/web"], ["/ns/a/b/svc/web"]),
        ("spiffe://td/**/web", ["/ns/a/svc/web", "/a/web"], ["/ns/a/svc/web2"]),
    ],
)
def test_spiffe_ids(pattern, yes, no):
    allowed = Allowed((pattern,))

    for path in yes:
        assert allowed.admits(*spiffe(f"spiffe://td{path}")), path
    for path in no:
        assert not allowed.admits(*spiffe(f"spiffe://td{path}")), path
    assert not allowed.admits(*spiffe(f"spiffe://evil{yes[0]}"))
    assert not allowed.admits(*dns("td", "web"))


def test_any_trust_domain():
    allowed = Allowed(("spiffe://*/ns/shop/svc/web",))

    assert allowed.admits(*spiffe("spiffe://any.example/ns/shop/svc/web"))
    assert not allowed.admits(*spiffe("spiffe://any/x/ns/shop/svc/web"))


def test_several():
    allowed = Allowed(("web", "spiffe://td/**"))

    assert allowed.admits("spiffe://td/x", ())
    assert allowed.admits("spiffe://other/x", ("web",))
    assert not allowed.admits("spiffe://other/x", ("api",))


@pytest.mark.parametrize("patterns", [("all",), ("web", "all"), ()])
def test_everybody(patterns):
    assert Allowed(patterns).admits(*NOBODY)
    assert Allowed(patterns).admits(*dns("anything"))


@given(st.text("ab./*", max_size=12), st.text("ab./", max_size=12), st.sampled_from("./"))
def test_it_means_what_a_regular_expression_would(pattern, name, separator):
    meant = {"*": f"[^{separator}]*", "**": ".*"}
    expression = "".join(
        meant[part[:2]] if part[0] == "*" else re.escape(part) for part in re.findall(r"\*+|.", pattern)
    )

    assert Pattern(pattern, separator).matches(name) == bool(re.fullmatch(expression, name, re.DOTALL))


def test_no_pattern_takes_long():
    """As a regular expression this one takes longer than anybody lives; here it would not be noticed."""
    pattern = Pattern("spiffe://td/" + "**a*b" * 40 + "c", "/")

    assert not pattern.matches("spiffe://td/" + "ab" * 1000)
