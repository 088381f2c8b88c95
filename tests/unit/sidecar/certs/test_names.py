"""SNI: which context a handshake changes over to, and which are kept when another pair changes."""

from __future__ import annotations

import gc
import ssl
import sys
import weakref
from contextlib import suppress

import pytest

from lab.certificates import make
from lab.handshake import leaf, shake
from lab.private_ca import PrivateCa
from lab.sidecar import any_certificate
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.names import Contexts
from sslterm.settings import ClientAuth, Mode, TlsProfile

HOSTS = {
    "default": ("default.example", "shared.example"),
    "exact": ("www.shop.example", "shared.example"),
    "wildcard": ("*.shop.example",),
}
PEMS = {name: make(*hosts) for name, hosts in HOSTS.items()}
CA = PrivateCa.made().pem


def bundle(name, pem=None):
    pem = pem or PEMS[name]
    return Bundle(pem.cert, pem.key, f"{name}.crt", f"{name}.key")


def credentials(*, authorities=b"", **replaced):
    return Credentials(tuple(bundle(name, replaced.get(name)) for name in PEMS), authorities)


def contexts(client_auth=ClientAuth.NONE):
    return Contexts(Mode.HTTP, TlsProfile.INTERMEDIATE, client_auth)


def front(held=None, given=None):
    return (held or contexts()).front(given or credentials(), list(HOSTS.values()))


def shown(served, name):
    certificate = leaf(shake(served, name=name))
    return next(each for each, pem in PEMS.items() if pem.cert.decode() == certificate)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default.example", "default"),
        ("www.shop.example", "exact"),
        ("WWW.Shop.Example", "exact"),
        ("other.shop.example", "wildcard"),
        ("a.b.shop.example", "default"),
        ("shop.example", "default"),
        ("shared.example", "default"),
        ("unknown.example", "default"),
        ("localhost", "default"),
        (None, "default"),
    ],
)
def test_the_exact_name_then_the_wildcard_of_one_label_then_the_default(name, expected):
    assert shown(front(), name) == expected


def hello_with(name: bytes) -> bytes:
    """A ClientHello with a name that Python's client would not send."""
    stand_in = ("q" * 60 + ".q")[-len(name) :]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        any_certificate().wrap_bio(incoming, outgoing, server_hostname=stand_in).do_handshake()
    return outgoing.read().replace(stand_in.encode(), name)


def greet(served, name):
    """The server's side after its first answer."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(hello_with(name))
    far = served.wrap_bio(incoming, outgoing, server_side=True)
    with suppress(ssl.SSLWantReadError):
        far.do_handshake()
    return far


def test_a_name_with_the_dot_of_the_root_is_the_same_name():
    served = front()

    assert greet(served, b"www.shop.example.").context is not served
    assert greet(served, b"unknown.example.").context is served


@pytest.mark.parametrize("name", [b"a..b.c", b".", b"x" * 60])
def test_a_name_that_is_none_gets_the_default(name):
    served = front()

    assert greet(served, name).context is served


def test_a_name_that_is_not_ascii_ends_the_handshake_and_writes_nothing(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    served = front()
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        greet(served, b"\xff\xfe.example")
    assert told == []

    class Other:
        def __del__(self):
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "another")

    Other()
    gc.collect()
    assert len(told) == 1, "everything else is told as ever"
    hook = sys.unraisablehook
    front()
    assert sys.unraisablehook is hook, "and is passed on once, however often certificates change"


def test_only_what_changed_is_made_anew():
    held = contexts()
    first = front(held)
    kept = {name: chosen(first, name) for name in ("www.shop.example", "x.shop.example")}
    second = front(held, credentials(wildcard=make("*.shop.example")))

    assert second is not first
    assert chosen(second, "www.shop.example") is kept["www.shop.example"]
    assert chosen(second, "x.shop.example") is not kept["x.shop.example"]


def test_other_authorities_make_all_anew():
    held = contexts(ClientAuth.REQUIRED)
    first = front(held, credentials(authorities=CA))
    second = front(held, credentials(authorities=CA + PrivateCa.made().pem))

    assert chosen(second, "www.shop.example") is not chosen(first, "www.shop.example")
    assert chosen(second, "www.shop.example").verify_mode is ssl.CERT_REQUIRED


def test_what_is_refused_leaves_what_was_kept():
    held = contexts()
    first = front(held)
    with pytest.raises(Rejected):
        front(held, credentials(wildcard=make("*.shop.example", passphrase=b"secret")))

    assert chosen(front(held), "x.shop.example") is chosen(first, "x.shop.example")


def test_a_front_that_is_not_used_any_more_is_freed_at_once():
    held = contexts()
    gone = weakref.ref(front(held))

    assert gone() is None


def chosen(served, name):
    return greet(served, name.encode()).context
