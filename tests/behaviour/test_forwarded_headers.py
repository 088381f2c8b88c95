"""The backend learns who called from us, and from the caller only where the caller is trusted."""

from __future__ import annotations

import pytest

from lab.backend import backend, ok
from lab.client import Client, relay

CLAIMS = [
    b"X-Forwarded-For: 6.6.6.6",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Host: evil",
    b"X-Forwarded-Port: 1",
    b"X-Real-Ip: 6.6.6.6",
    b"Forwarded: for=6.6.6.6",
]
IDENTITIES = [
    b"Client-Cert: :x:",
    b"Client-Cert-Chain: :x:",
    b"X-Forwarded-Client-Cert: Hash=x",
    b"X_Forwarded_For: 6.6.6.6",
    b"x_real-ip: 6.6.6.6",
    b"Proxy: http://evil",
]


def headers_seen(*fields, flags=(), host=b"shop.example:8443"):
    def answer(peer):
        server.seen.put(peer.head())
        peer.send(ok())
        peer.rest()

    with backend(answer) as server, relay(server, *flags) as running:
        with Client(running.port) as client:
            request = b"\r\n".join((b"GET /a HTTP/1.1", b"Host: " + host, b"Accept: */*", *fields, b"", b""))
            assert client.ask(request)[0] == 200
        lines = server.sees().split(b"\r\n")[1:-2]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


OURS = {
    b"x-forwarded-for": b"127.0.0.1",
    b"x-forwarded-proto": b"https",
    b"x-forwarded-host": b"shop.example:8443",
    b"x-forwarded-port": b"8443",
    b"x-real-ip": b"127.0.0.1",
}
THEIRS = {b"host": b"shop.example:8443", b"accept": b"*/*"}


@pytest.mark.parametrize("flags", [(), ("--trusted-proxies=10.0.0.0/8",)], ids=["nobody is trusted", "others are"])
def test_a_stranger_is_not_believed(flags):
    seen = headers_seen(*CLAIMS, *IDENTITIES, flags=flags)

    assert dict(seen) == THEIRS | OURS
    assert len(seen) == len(dict(seen))


def test_a_trusted_proxy_is_believed_but_vouches_for_no_identity():
    seen = headers_seen(*CLAIMS, *IDENTITIES, flags=("--trusted-proxies=10.0.0.0/8,127.0.0.0/8",))

    assert dict(seen) == THEIRS | {
        b"x-forwarded-for": b"6.6.6.6, 127.0.0.1",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"evil",
        b"x-forwarded-port": b"1",
        b"x-real-ip": b"6.6.6.6",
        b"forwarded": b"for=6.6.6.6",
    }
    assert len(seen) == len(dict(seen))


def test_nominating_our_fields_does_not_remove_them():
    seen = headers_seen(b"Connection: X-Forwarded-For, X-Real-Ip, X-Forwarded-Proto, Host, X-Mine", b"X-Mine: 1")

    assert dict(seen) == THEIRS | OURS


def test_without_a_port_it_is_https_own():
    assert dict(headers_seen(host=b"shop.example"))[b"x-forwarded-port"] == b"443"


def test_the_host_of_an_absolute_target_is_the_only_one_that_the_backend_sees():
    def answer(peer):
        server.seen.put(peer.head())
        peer.send(ok())
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            client.ask(b"GET https://real.example/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n")
        seen = server.sees()
        assert seen.startswith(b"GET /a?b HTTP/1.1\r\nHost: real.example\r\n")
        assert b"other.example" not in seen
