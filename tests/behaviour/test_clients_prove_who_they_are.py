"""With --client-auth nobody reaches the backend who may not, each is told why, and the backend learns who called."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from contextlib import contextmanager

import pytest

from lab.backend import backend, ok
from lab.certificates import make
from lab.client import Client, access_lines, get, relay
from lab.handshake import client_with
from lab.private_ca import CLIENT, SERVER, PrivateCa
from lab.sidecar import refused, wait_until
from sslterm.settings import CHECK_ALPN

URI = "spiffe://td.example/ns/shop/svc/web"
ALLOW = "--allow=laptop,*.shop,spiffe://td.example/ns/shop/svc/*"


@pytest.fixture(scope="module")
def ca():
    return PrivateCa.made()


@contextmanager
def guarded(folder, ca, *flags):
    """A sidecar that asks for certificates of `ca`, before a backend that keeps the heads it saw."""

    def answer(peer):
        while True:
            server.seen.put(peer.head())
            peer.send(ok())

    authorities = folder / "authorities.pem"
    authorities.write_bytes(ca.pem)
    with backend(answer) as server, relay(server, f"--client-ca={authorities}", *flags) as running:
        running.server = server
        yield running


def told(client: Client) -> str:
    """What a client that is refused in the handshake learns: with TLS 1.3 only once it reads."""
    with pytest.raises(ssl.SSLError) as caught:
        client.recv()
    return caught.value.reason


def heads(running) -> list[bytes]:
    found = []
    while not running.server.seen.empty():
        found.append(running.server.seen.get())
    return found


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value.strip()) for name, _, value in (each.partition(b":") for each in head.split(b"\r\n"))]


def digest(pem) -> tuple[bytes, str]:
    der = ssl.PEM_cert_to_DER_cert(pem.cert.decode())
    return base64.b64encode(der), hashlib.sha256(der).hexdigest()


SMUGGLED = [
    b"Client-Cert: :evil:",
    b"client-cert-chain: :evil:",
    b"X-Forwarded-Client-Cert: Hash=evil",
    b"x-FORWARDED-client-cert: URI=evil",
    b"X_Forwarded_Client_Cert: Hash=evil",
    b"Client_Cert: evil",
    b"Client.Cert: evil",
    b"X-SSL-Client-CN: evil",
    b"X-Client-Cert: evil",
    b"Connection: Client-Cert, X-Forwarded-Client-Cert",
]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_backend_learns_who_calls_from_us_alone(tmp_path, ca, version, workers):
    pem = ca.issue("api.shop", URI, usage=CLIENT)
    der, sha = digest(pem)
    server = ca.issue("localhost", "spiffe://td.example/ns/shop/svc/own", usage=SERVER).write(tmp_path / "server")
    own = (f"--cert={server[0]}", f"--key={server[1]}")
    flags = ("--client-auth=required", ALLOW, f"--workers={workers}", *own)
    with guarded(tmp_path, ca, *flags) as running:
        with Client(running.port, client_with(pem, tmp_path, version)) as client:
            for _ in range(2):
                assert client.ask(get(b"/", *SMUGGLED))[0] == 200
        seen = heads(running)
    assert len(seen) == 2
    for head in seen:
        assert b"evil" not in head
        assert [each for each in fields(head) if b"cert" in each[0]] == [
            (b"client-cert", b":" + der + b":"),
            (
                b"x-forwarded-client-cert",
                f'By=spiffe://td.example/ns/shop/svc/own;Hash={sha};Subject="CN=api.shop";URI={URI};DNS=api.shop'.encode(),
            ),
        ]


def test_a_trusted_proxy_may_say_for_whom_it_calls_but_not_who_it_is(tmp_path, ca):
    pem = ca.issue("laptop", usage=CLIENT)
    der, sha = digest(pem)
    flags = ("--client-auth=required", ALLOW, "--trusted-proxies=127.0.0.0/8")
    with guarded(tmp_path, ca, *flags) as running:
        with Client(running.port, client_with(pem, tmp_path)) as client:
            assert client.ask(get(b"/", b"X-Forwarded-For: 192.0.2.7", *SMUGGLED))[0] == 200
        head = heads(running)[0]
    assert b"evil" not in head
    assert (b"x-forwarded-for", b"192.0.2.7, 127.0.0.1") in fields(head)
    assert (b"client-cert", b":" + der + b":") in fields(head)
    assert (b"x-forwarded-client-cert", f'Hash={sha};Subject="CN=laptop";DNS=laptop'.encode()) in fields(head)


BAD = {
    "none": (None, "the client showed no certificate", "CERTIFICATE_REQUIRED"),
    "of a foreign authority": (
        lambda ca: PrivateCa.made("a foreign root").issue("laptop", usage=CLIENT),
        "certificate verify failed: unable to get local issuer certificate",
        "UNKNOWN_CA",
    ),
    "self-signed": (
        lambda ca: make("laptop", usage=CLIENT),
        "certificate verify failed: self-signed certificate",
        "UNKNOWN_CA",
    ),
    "expired": (
        lambda ca: ca.issue("laptop", begins=-2, ends=-1, usage=CLIENT),
        "certificate verify failed: certificate has expired",
        "EXPIRED",
    ),
    "not valid yet": (
        lambda ca: ca.issue("laptop", begins=1, ends=2, usage=CLIENT),
        "certificate verify failed: certificate is not yet valid",
        "BAD_CERTIFICATE",
    ),
    "a server's": (
        lambda ca: ca.issue("laptop", usage=SERVER),
        "certificate verify failed: (unsupported|unsuitable) certificate purpose",
        "UNSUPPORTED_CERTIFICATE",
    ),
}


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize(("issue", "why", "alert"), BAD.values(), ids=BAD.keys())
def test_a_certificate_that_is_missing_or_bad_ends_the_handshake(tmp_path, ca, mode, issue, why, alert):
    pem = issue and issue(ca)
    with guarded(tmp_path, ca, "--client-auth=required", "--allow=all", f"--mode={mode}") as running:
        with Client(running.port, client_with(pem, tmp_path)) as client:
            assert alert in told(client)
        line = running.wait_for("denied")[0]

        assert re.search(f"denied 127.0.0.1: TLS handshake failed: {why}$", line)
        assert heads(running) == []
        assert running.access == []
    assert running.said("1 of which failed in the TLS handshake; 1 clients were denied$")


def test_who_shows_a_bad_certificate_is_told_of_even_if_it_calls_itself_a_check(tmp_path, ca):
    with guarded(tmp_path, ca, "--client-auth=required", "--allow=all") as running:
        for pem in (None, make("laptop", usage=CLIENT)):
            context = client_with(pem, tmp_path)
            context.set_alpn_protocols([CHECK_ALPN])
            with Client(running.port, context) as client:
                told(client)
        running.wait_for("denied 127.0.0.1: TLS handshake failed: certificate verify failed: self-signed")
    assert running.said("1 clients were denied$")


@pytest.mark.parametrize("workers", [1, 2])
def test_who_may_not_call_is_answered_403(tmp_path, ca, workers):
    pem = ca.issue("other", "spiffe://td.example/ns/other/svc/web", usage=CLIENT)
    with guarded(tmp_path, ca, "--client-auth=required", ALLOW, f"--workers={workers}") as running:
        with Client(running.port, client_with(pem, tmp_path)) as client:
            status, head, body = client.ask(get(b"/secret"))
            assert status == 403
            assert b"\r\nConnection: close\r\n" in head
            assert body == b"403 Forbidden: spiffe://td.example/ns/other/svc/web is not allowed to call\n"
            assert client.rest() == b""
        running.wait_for("denied 127.0.0.1: spiffe://td.example/ns/other/svc/web is not allowed to call$")
        assert heads(running) == []
        line = access_lines(running, 1)[0]
        assert " | 403 | " in line
        assert " spiffe://td.example/ns/other/svc/web | GET /secret | " in line
    assert running.said("1 clients were denied$")


def test_a_request_in_pieces_or_with_more_behind_it_gets_the_same_403(tmp_path, ca):
    pem = ca.issue("other", usage=CLIENT)
    with guarded(tmp_path, ca, "--client-auth=required", ALLOW) as running:
        with Client(running.port, client_with(pem, tmp_path)) as client:
            for byte in get(b"/", b"Expect: 100-continue"):
                client.send(bytes((byte,)))
            assert client.answer()[0] == 403
        with Client(running.port, client_with(pem, tmp_path)) as client:
            assert client.ask(get() * 3)[0] == 403
            assert client.rest() == b""
        with Client(running.port, client_with(pem, tmp_path)) as client:
            assert client.ask(b"nonsense\r\n\r\n")[0] == 400
        with Client(running.port, client_with(pem, tmp_path)) as client:
            client.end()
            assert client.rest() == b""
        assert heads(running) == []


def test_in_tcp_mode_who_may_not_call_is_closed_at_once(tmp_path, ca):
    pem = ca.issue("other", usage=CLIENT)
    with guarded(tmp_path, ca, "--client-auth=required", ALLOW, "--mode=tcp", "--log-format=json") as running:
        with Client(running.port, client_with(pem, tmp_path)) as client:
            client.send(b"let me in")
            assert client.rest() == b""
        running.wait_for("denied 127.0.0.1: other is not allowed to call")
        entry = json.loads(access_lines(running, 1)[0])
        assert entry["client_id"] == "other"
        assert entry["error"] == "other is not allowed to call"
        assert (entry["received"], entry["sent"]) == (0, 0)
        assert heads(running) == []


def test_each_peer_that_is_denied_is_told_of(tmp_path, ca):
    with guarded(tmp_path, ca, "--client-auth=required", ALLOW) as running:
        for name in ("one", "two", "three"):
            context = client_with(ca.issue(name, usage=CLIENT), tmp_path)
            for _ in range(3):
                with Client(running.port, context) as client:
                    assert client.ask(get())[0] == 403
        lines = running.said("denied")
        assert [line.rpartition("denied 127.0.0.1: ")[2] for line in lines] == [
            f"{name} is not allowed to call" for name in ("one", "two", "three")
        ]
    assert running.said("9 clients were denied$")


def test_more_than_one_spiffe_id_is_none(tmp_path, ca):
    pem = ca.issue("laptop", URI, "spiffe://td.example/second", usage=CLIENT)
    with guarded(tmp_path, ca, "--client-auth=required", "--allow=all") as running:
        with Client(running.port, client_with(pem, tmp_path)) as client:
            status, _, body = client.ask(get())
            assert status == 403
            assert body == (
                b"403 Forbidden: the client's certificate is refused: "
                b"2 URIs beside a SPIFFE ID, which must be the only one\n"
            )
        assert heads(running) == []


def test_optional_lets_in_who_shows_nothing_but_not_who_shows_something_bad(tmp_path, ca):
    good, other = ca.issue("laptop", usage=CLIENT), ca.issue("other", usage=CLIENT)
    foreign = PrivateCa.made("a foreign root").issue("laptop", usage=CLIENT)
    with guarded(tmp_path, ca, "--client-auth=optional", ALLOW) as running:
        with Client(running.port) as client:
            assert client.ask(get(b"/nobody", *SMUGGLED))[0] == 200
        with Client(running.port, client_with(good, tmp_path)) as client:
            assert client.ask(get(b"/laptop"))[0] == 200
        with Client(running.port, client_with(other, tmp_path)) as client:
            assert client.ask(get(b"/other"))[0] == 403
        with Client(running.port, client_with(foreign, tmp_path)) as client:
            assert "UNKNOWN_CA" in told(client)
        nobody, laptop = heads(running)
        assert b"evil" not in nobody
        assert b"cert" not in nobody.lower()
        assert b"Client-Cert: :" + digest(good)[0] in laptop
        lines = access_lines(running, 3)
        assert [re.search(r"\| (127\.0\.0\.1:\d+)( laptop| other|) \| GET", line)[2] for line in lines] == [
            "", " laptop", " other",
        ]  # fmt: skip


def test_without_client_auth_nobody_is_asked_and_claims_are_removed(tmp_path, ca):
    def answer(peer):
        server.seen.put(peer.head())
        peer.send(ok())

    with backend(answer) as server, relay(server) as running:
        with Client(running.port, client_with(ca.issue("laptop", usage=CLIENT), tmp_path)) as client:
            assert client.ask(get(b"/", *SMUGGLED))[0] == 200
        seen = server.sees()
    assert b"evil" not in seen
    assert b"cert" not in seen.lower()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_does_not_outlive_the_certificate_by_which_it_began(tmp_path, ca, version):
    seconds = 1 / 86400
    context = client_with(ca.issue("laptop", ends=4 * seconds, usage=CLIENT), tmp_path, version)
    with guarded(tmp_path, ca, "--client-auth=required", ALLOW) as running:
        with Client(running.port, context) as client:
            assert client.ask(get())[0] == 200
            session = client.tls.session
        with Client(running.port, context, session=session) as client:
            assert client.ask(get())[0] == 200
            assert client.tls.session_reused

        def resumed():
            with Client(running.port, context, session=session) as client:
                status, _, body = client.ask(get())
                assert client.tls.session_reused
                return body if status == 403 else None

        assert wait_until(resumed, "the end of its days") == (b"403 Forbidden: the certificate of laptop has expired\n")


def test_a_resumed_session_says_who_calls(tmp_path, ca):
    pem = ca.issue("laptop", usage=CLIENT)
    context = client_with(pem, tmp_path)
    with guarded(tmp_path, ca, "--client-auth=required", ALLOW, "--workers=2") as running:
        with Client(running.port, context) as client:
            assert client.ask(get())[0] == 200
            session = client.tls.session
        for _ in range(4):
            with Client(running.port, context, session=session) as client:
                assert client.ask(get())[0] == 200
                assert client.tls.session_reused
        seen = heads(running)
    assert len(seen) == 5
    assert all(b"Client-Cert: :" + digest(pem)[0] in head for head in seen)


def test_a_check_is_no_denied_client(tmp_path, ca):
    with guarded(tmp_path, ca, "--client-auth=required", "--allow=all") as running:
        done = refused("check", f"--frontend-addr=127.0.0.1:{running.port}")
        assert (done.returncode, done.stderr) == (0, "")
    assert not running.said("denied|failed")
