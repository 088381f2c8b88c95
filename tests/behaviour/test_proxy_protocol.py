"""PROXY protocol: who called is believed of the proxies that were named, of nobody else, and told to the backend."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.backend import Peer, backend, echo, ok
from lab.certificates import Pem
from lab.client import Client, access_lines, get, relay
from lab.handshake import client_with
from lab.private_ca import CLIENT, PrivateCa
from lab.proxied import LOCAL, binary, line, receive
from lab.sidecar import PATIENCE, free_port, wait_until

TRUSTED = "--accept-proxy=127.0.0.0/8"
URI = "spiffe://td.example/ns/shop/svc/web"


@contextmanager
def http(*flags):
    """A backend that keeps the heads it saw."""

    def answer(peer):
        while True:
            server.seen.put(peer.head())
            peer.send(ok())

    with backend(answer) as server, relay(server, *flags) as running:
        running.server = server
        yield running


@contextmanager
def tcp(*flags, speak=b""):
    """A backend that reads a header, and speaks first if it has something to say."""

    def introduced(peer):
        server.proxied.append(receive(peer))
        peer.send(speak)
        echo(peer)

    with backend(introduced) as server:
        server.proxied = []
        with relay(server, "--mode=tcp", "--send-proxy=v2", *flags) as running:
            running.server = server
            yield running


@contextmanager
def bare(port):
    """A connection without TLS."""
    with socket.create_connection(("127.0.0.1", port)) as raw:
        yield Peer(raw)


HEADERS = {
    "1, IPv4": (line(), "192.0.2.7", "192.0.2.7:4711"),
    "1, IPv6": (line("2001:db8::7", to="2001:db8::1"), "2001:db8::7", "[2001:db8::7]:4711"),
    "2, IPv4": (binary(), "192.0.2.7", "192.0.2.7:4711"),
    "2, IPv6": (binary("2001:db8::7", to="2001:db8::1"), "2001:db8::7", "[2001:db8::7]:4711"),
    "2, fields": (binary(fields=b"\x02\x00\x03www" + b"\xe0\x01\x00" + b"x" * 256), "192.0.2.7", "192.0.2.7:4711"),
}


@pytest.mark.parametrize(("header", "host", "logged"), HEADERS.values(), ids=HEADERS.keys())
def test_the_address_in_the_header_is_the_clients(header, host, logged):
    with http(TRUSTED) as running:
        with Client(running.port, first=header) as client:
            assert client.ask(get())[0] == 200
        head = running.server.sees()
        assert b"\r\nX-Forwarded-For: %b\r\n" % host.encode() in head
        assert b"\r\nX-Real-Ip: %b\r\n" % host.encode() in head
        assert f" | {logged} | GET / | " in access_lines(running, 1)[0]


def test_header_and_hello_in_any_pieces():
    with http(TRUSTED) as running:
        for header in (line(), binary()):
            for size in (1, 7, 16384):
                with _InPieces(running.port, header, size) as client:
                    assert client.ask(get())[0] == 200
                assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in running.server.sees()


class _InPieces(Client):
    """Sends everything, from the header on, in segments of `size` bytes."""

    def __init__(self, port, header, size):
        self._header = header
        self._size = size
        super().__init__(port)

    def _flush(self):
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data, self._header = self._header + self._out.read(), b""
        for at in range(0, len(data), self._size):
            self.raw.sendall(data[at : at + self._size])


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 192.0.2.7 x\r\n"])
def test_a_proxy_that_speaks_for_itself_is_the_client(header):
    with http(TRUSTED) as running:
        with Client(running.port, first=header) as client:
            assert client.ask(get())[0] == 200
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in running.server.sees()


def test_trusted_proxies_are_those_behind_the_header():
    flags = (TRUSTED, "--trusted-proxies=192.0.2.0/24")
    with http(*flags) as running:
        for host, seen in (("192.0.2.7", b"203.0.113.9, 192.0.2.7"), ("198.51.100.7", b"198.51.100.7")):
            with Client(running.port, first=line(host)) as client:
                assert client.ask(get(b"/", b"X-Forwarded-For: 203.0.113.9"))[0] == 200
            assert b"\r\nX-Forwarded-For: " + seen + b"\r\n" in running.server.sees()


def test_of_others_no_header_is_read():
    with http("--accept-proxy=10.0.0.0/8,127.0.0.2") as running:
        with pytest.raises((ssl.SSLError, OSError)):
            Client(running.port, first=line())
        running.wait_for("TLS handshake with 127.0.0.1 failed")
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200
        assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in running.server.sees()
        with Client(running.port, source="127.0.0.2", first=line()) as client:
            assert client.ask(get())[0] == 200
        assert b"\r\nX-Forwarded-For: 192.0.2.7\r\n" in running.server.sees()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (Client.hello(), "it does not begin with a header"),
        (b"GET / HTTP/1.1\r\n\r\n", "it does not begin with a header"),
        (line("192.0.2.777"), "an address that is none of TCP4"),
        (b"PROXY TCP4 " + b"1" * 120, "no end of line within 107 bytes"),
        (binary()[:14] + b"\xff\xff", "longer than 4096 bytes"),
        (binary(fields=b"\x02\x00\x09www"), "a field that is cut short"),
    ],
)
def test_a_named_proxy_must_send_a_header(data, why):
    with http(TRUSTED) as running:
        for _ in range(2):
            with bare(running.port) as peer:
                peer.send(data)
                with suppress(ConnectionResetError):
                    assert peer.rest() == b""
        lines = running.wait_for("PROXY protocol")
        assert [each.rpartition("no PROXY protocol ")[2] for each in lines] == [f"from 127.0.0.1: {why}"]
        assert running.server.seen.empty()
    assert running.said("2 of which failed in the TLS handshake")


@pytest.mark.parametrize(
    "data",
    [b"", b"PROXY TCP4 192.0.2.7 ", binary()[:20], line(), line() + Client.hello()[:50]],
    ids=["nothing", "half a line", "half a header", "a line", "half a hello"],
)
def test_a_proxy_that_is_silent_is_closed_in_time(data):
    with http(TRUSTED, "--handshake-timeout=300ms") as running, bare(running.port) as peer:
        peer.send(data)
        with suppress(ConnectionResetError):
            assert peer.rest() == b""


def test_the_backend_is_told_before_all_else_also_of_a_client_that_is_silent():
    with tcp(speak=b"220 welcome\r\n") as running:
        with Client(running.port) as client:
            assert client.until(b"\r\n") == b"220 welcome\r\n"
            own = client.raw.getsockname()
            client.send(b"hello")
            assert client.exactly(5) == b"hello"
        found = running.server.proxied
        assert len(found) == 1
        assert (found[0].source, found[0].destination) == (own, ("127.0.0.1", running.port))
        assert found[0].fields.keys() == {0x02, 0x20}
        assert found[0].fields[0x02] == b"localhost"
        assert (found[0].client, found[0].verify != 0) == (1, True)
        assert found[0].details == {0x21: client.tls.version().encode(), 0x23: client.tls.cipher()[0].encode()}


def test_what_the_client_sent_at_once_comes_after_the_header():
    with tcp() as running:
        data = bytes(range(256)) * 1024
        with Client(running.port) as client:
            client.send(data)
            assert client.exactly(len(data)) == data
        assert len(running.server.proxied) == 1


@pytest.mark.parametrize("kind", ["0xD0", "0xE0"])
def test_the_backend_is_told_who_the_client_proved_to_be(tmp_path, kind):
    ca = PrivateCa.made()
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    context = client_with(ca.issue("web.shop", URI, usage=CLIENT), tmp_path)
    flags = (f"--client-ca={tmp_path}/ca.pem", "--client-auth=required", "--allow=all", f"--proxy-spiffe-type={kind}")
    with tcp(*flags, "--workers=2", speak=b".") as running:
        with Client(running.port, context) as client:
            assert client.recv() == b"."
            session = client.tls.session
        with Client(running.port, context, session=session) as client:
            assert client.recv() == b"."
            assert client.tls.session_reused
        first, second = running.server.proxied
        assert (first.client, first.verify) == (7, 0)
        assert (second.client, second.verify) == (5, 0)
        assert first.details[0x22] == second.details[0x22] == b"web.shop"
        assert first.fields[int(kind, 0)] == second.fields[int(kind, 0)] == URI.encode()


@pytest.mark.parametrize("header", [line(), binary()])
def test_what_a_proxy_in_front_said_is_told_on(header):
    with tcp(TRUSTED, speak=b".") as running:
        with Client(running.port, first=header) as client:
            assert client.recv() == b"."
        assert running.server.proxied[0].source == ("192.0.2.7", 4711)
        assert running.server.proxied[0].destination == ("198.51.100.1", 443)


def with_a_long_name(ca: PrivateCa):
    """A certificate that is longer in words than a header may be."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    with pytest.warns(UserWarning, match="length must be"):  # OpenSSL is less strict than this library
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 5000, _validate=False)])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(ca.key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pem(cert.public_bytes(Encoding.PEM), key_pem)


def test_who_cannot_be_told_of_is_not_let_in(tmp_path):
    ca = PrivateCa.made()
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    context = client_with(with_a_long_name(ca), tmp_path)
    with tcp(f"--client-ca={tmp_path}/ca.pem", "--client-auth=required", "--allow=all") as running:
        with Client(running.port, context) as client:
            client.send(b"hello")
            assert client.rest() == b""
        running.wait_for("no PROXY header can be made for it: a field would be longer than 4096 bytes")
        assert " | no PROXY header can be made for it" in access_lines(running, 1)[0]
        assert running.server.proxied == []


@contextmanager
def haproxy(folder: Path, *sections: str):
    """A real load balancer with this configuration, until the end of the block."""
    path = folder / "haproxy.cfg"
    defaults = "defaults\n mode tcp\n timeout connect 10s\n timeout client 30s\n timeout server 30s"
    path.write_text("\n".join(("global\n maxconn 100", defaults, *sections, "")))
    process = subprocess.Popen(
        ["/usr/sbin/haproxy", "-db", "-f", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield
        assert process.poll() is None
    finally:
        process.terminate()
        print(process.communicate(timeout=PATIENCE)[0])  # for a test that failed


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_between_two_of_haproxy(tmp_path, option):
    """HAProxy in front says who called, and HAProxy behind hears it from us."""
    front, middle, behind = free_port(), free_port(), free_port()
    said = "%[src]:%[src_port] %[fc_pp_authority]"
    before = f"listen front\n bind 127.0.0.1:{front}\n server sslterm 127.0.0.1:{middle} {option}"
    after = (
        f"frontend behind\n mode http\n bind 127.0.0.1:{behind} accept-proxy\n"
        f' http-request return status 200 content-type text/plain lf-string "{said}"'
    )
    flags = (f"--frontend-addr=127.0.0.1:{middle}", "--mode=tcp", "--send-proxy=v2", TRUSTED)
    with haproxy(tmp_path, before, after):
        wait_until(lambda: answers(front) and answers(behind), "HAProxy")
        with relay(behind, *flags) as running, Client(front, source="127.0.0.9") as client:
            host, port = client.raw.getsockname()
            status, _, body = client.ask(get())
            assert (status, body) == (200, f"{host}:{port} localhost".encode())
            client.end()
            assert client.rest() == b""
            assert f" | {host}:{port} | tcp | " in access_lines(running, 1)[0]
