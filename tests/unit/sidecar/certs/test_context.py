"""Contexts: what they offer, and that they were proved. (OpenSSL's own client looks at them in behaviour/.)"""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography.x509 import ExtendedKeyUsageOID

from lab.certificates import make
from lab.private_ca import BOTH, CLIENT, PrivateCa
from sslterm.certs import context
from sslterm.certs.bundle import Bundle, Rejected
from sslterm.certs.profiles import PROFILES
from sslterm.settings import CHECK_ALPN, ClientAuth, Mode, TlsProfile

GOOD = make("localhost", "*.example.org", "127.0.0.1", "::1")


def bundle(pem=GOOD, key=None):
    return Bundle(pem.cert, key or pem.key, "c.pem", "k.pem")


def build(pem=GOOD, key=None, mode=Mode.HTTP, profile=TlsProfile.INTERMEDIATE):
    return context.build(bundle(pem, key), mode, profile)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def handshake(served, alpn=(), maximum=ssl.TLSVersion.TLSv1_3, ciphers=None):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = maximum
    if ciphers:
        client.set_ciphers(ciphers)
    if alpn:
        client.set_alpn_protocols(list(alpn))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(down, up), served.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near


def test_the_facts_are_read_by_a_handshake():
    served = build()
    facts = context.prove(served, bundle())
    now = dt.datetime.now(dt.UTC)

    assert facts.names == ("localhost", "*.example.org", "127.0.0.1", "::1")
    assert facts.not_before < now < facts.not_after
    assert facts.fault(now) is None


def test_dates_are_read_even_when_they_are_over_and_told():
    over, early = make(begins=-9, ends=-1), make(begins=1, ends=9)
    now = dt.datetime.now(dt.UTC)

    assert "expired on" in context.prove(build(over), bundle(over)).fault(now)
    assert "not valid before" in context.prove(build(early), bundle(early)).fault(now)


def test_a_certificate_without_names_is_called_by_its_common_name():
    nameless = make()

    assert context.prove(build(nameless), bundle(nameless)).names == ("localhost",)


def test_a_foreign_key_is_told():
    with pytest.raises(Rejected, match=r"k\.pem: not the key of the first certificate in c\.pem"):
        build(key=make("other").key)


def test_a_key_of_another_kind_is_told():
    with pytest.raises(Rejected, match=r"k\.pem: not the key of the first certificate in c\.pem"):
        build(key=make("other", rsa_bits=2048).key)


def test_a_short_key_is_told():
    with pytest.raises(Rejected, match=r"c\.pem with k\.pem: its key is too short"):
        build(make("localhost", rsa_bits=1024))


def test_a_clients_certificate_is_told():
    client = make("localhost", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    with pytest.raises(Rejected, match=r"c\.pem: not a server's certificate"):
        context.prove(build(client), bundle(client))


def test_whole_pem_with_nonsense_in_it_is_told():
    nonsense = b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n"
    with pytest.raises(Rejected, match=r"c\.pem with k\.pem: the TLS library cannot read it"):
        context.build(Bundle(nonsense, GOOD.key, "c.pem", "k.pem"), Mode.HTTP, TlsProfile.MODERN)


def test_an_encrypted_key_never_asks_the_terminal():
    with pytest.raises(Rejected, match="encrypted"):
        build(key=make(passphrase=b"secret").key)


def test_no_descriptor_is_left_behind_good_or_bad():
    before = open_files()
    build()
    with pytest.raises(Rejected):
        build(key=make("other").key)

    assert open_files() == before


def test_no_descriptor_left_is_told(monkeypatch):
    def no_descriptor_left(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(context.os, "memfd_create", no_descriptor_left)
    with pytest.raises(Rejected, match=r"c\.pem with k\.pem: Too many open files"):
        build()


def test_intermediate_is_mozillas_list_and_the_client_chooses():
    served = build()
    offered = [each["name"] for each in served.get_ciphers() if each["protocol"] == "TLSv1.2"]
    chosen = [
        handshake(served, maximum=ssl.TLSVersion.TLSv1_2, ciphers=f"{first}:{other}").cipher()[0]
        for first, other in [(offered[0], offered[4]), (offered[4], offered[0])]
    ]

    assert offered == list(PROFILES[TlsProfile.INTERMEDIATE].ciphers)
    assert chosen == [offered[0], offered[4]]


def test_modern_is_tls_1_3_only():
    served = build(profile=TlsProfile.MODERN)

    assert handshake(served).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        handshake(served, maximum=ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize(
    ("mode", "offered", "chosen"),
    [
        (Mode.HTTP, ["h2", "http/1.1"], "http/1.1"),
        (Mode.HTTP, ["h2"], None),
        (Mode.TCP, ["h2", "http/1.1"], None),
        (Mode.HTTP, [CHECK_ALPN], CHECK_ALPN),
        (Mode.TCP, [CHECK_ALPN], CHECK_ALPN),
        (Mode.HTTP, [], None),
    ],
)
def test_alpn(mode, offered, chosen):
    assert handshake(build(mode=mode), alpn=offered).selected_alpn_protocol() == chosen


def test_no_compression_no_renegotiation():
    assert build().options & (ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION) == (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    )


CA = PrivateCa.made()
OURS = CA.issue("web", "spiffe://byfahrer.internal/ns/shop/svc/web", usage=BOTH)


def client_context(pem=OURS, authorities=CA.pem, profile=TlsProfile.INTERMEDIATE):
    return context.build_client(bundle(pem), profile, authorities, "ca.pem")


def meet(client, pem, name, asks=False):
    """A client's context and a server with this certificate; the server's side."""
    served = context.build(bundle(pem), Mode.TCP, TlsProfile.INTERMEDIATE)
    if asks:
        context.ask_clients(served, ClientAuth.REQUIRED, CA.pem, "ca.pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(down, up, server_hostname=name), served.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return far


def test_a_client_shows_its_certificate_to_a_server_of_the_authorities():
    far = meet(client_context(), CA.issue("tasks.shop_db", usage=BOTH), "tasks.shop_db", asks=True)

    assert ("URI", "spiffe://byfahrer.internal/ns/shop/svc/web") in far.getpeercert()["subjectAltName"]


@pytest.mark.parametrize(
    ("pem", "name"),
    [
        (CA.issue("db", usage=BOTH), "api"),
        (CA.issue("db", usage=CLIENT), "db"),
        (CA.issue("db", ends=-0.5, usage=BOTH), "db"),
        (PrivateCa.made().issue("db", usage=BOTH), "db"),
        (CA.issue("db", usage=BOTH), "127.0.0.1"),
        (CA.issue("*.shop", usage=BOTH), "a.b.shop"),
        (CA.issue("db", named=False, usage=BOTH), "db"),
    ],
    ids=["name", "a client's", "expired", "foreign", "address", "wildcard", "common name"],
)
def test_a_client_accepts_no_other(pem, name):
    with pytest.raises(ssl.SSLCertVerificationError):
        meet(client_context(), pem, name)


def test_a_client_has_the_servers_profile():
    server, client = build(profile=TlsProfile.INTERMEDIATE), client_context()

    assert {each["name"] for each in client.get_ciphers()} == {each["name"] for each in server.get_ciphers()}
    assert client.minimum_version == server.minimum_version == ssl.TLSVersion.TLSv1_2
    assert client_context(profile=TlsProfile.MODERN).minimum_version == ssl.TLSVersion.TLSv1_3
    assert not client.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    assert (client.verify_mode, client.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("authorities", [b"", b"x", OURS.key])
def test_a_client_without_authorities_is_none(authorities):
    with pytest.raises(Rejected, match=r"ca\.pem: "):
        client_context(authorities=authorities)
