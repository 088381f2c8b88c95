"""Before TLS: who proves a name to an ACME server gets the other certificate, and nobody else does."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from ipaddress import ip_network

import pytest

from lab.backend import Peer, backend, echo_requests
from lab.certificates import make
from lab.client import Client, get
from lab.sidecar import any_certificate
from sslterm.relay.listener import bind
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Backend, Policy
from sslterm.relay.tally import REFUSED
from sslterm.settings import Address, Settings


def server_context(folder, name: str, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make(name).write(folder / name))
    context.set_alpn_protocols(list(protocols))
    return context


class Running:
    def __init__(self, folder) -> None:
        self.usual = server_context(folder, "usual.example", "http/1.1")
        self.proof = server_context(folder, "proof.example", "acme-tls/1")
        self.challenge: ssl.SSLContext | None = None
        self.said: list[str] = []
        self.port = 0
        self.dialled = 0

    def ask(self, *protocols: str) -> tuple[ssl.SSLSocket, bytes]:
        """A client that offers these; what it was shown."""
        context = any_certificate()
        if protocols:
            context.set_alpn_protocols(list(protocols))
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        tls = context.wrap_socket(raw, server_hostname="localhost")
        return tls, tls.getpeercert(binary_form=True)


@contextmanager
def relaying(tmp_path, **settings):
    running = Running(tmp_path)

    def count(peer):
        running.dialled += 1
        echo_requests(peer)

    with backend(count) as server:
        relay = Relay()
        policy = Policy(
            settings=Settings(**settings),
            context=lambda: running.usual,
            challenge=lambda: running.challenge,
            backends=(Backend(socket.AF_INET, ("127.0.0.1", server.port)),),
            access_log=None,
            report=lambda level, text: running.said.append(text),
        )
        sock = bind(Address("127.0.0.1", 0))
        running.port = sock.getsockname()[1]
        running.tally = policy.tally
        relay.add(sock, policy)
        thread = threading.Thread(target=relay.run)
        thread.start()
        try:
            yield running
        finally:
            relay.drain(1)
            thread.join(30)
        assert not thread.is_alive()
        assert not relay.connections


def leaf(context: ssl.SSLContext) -> bytes:
    """What a server with this context shows."""
    client, to_server, to_client = any_certificate(), ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for each in (near, far):
            with suppress(ssl.SSLWantReadError):
                each.do_handshake()
    return near.getpeercert(binary_form=True)


def test_the_proof_is_shown_to_whom_asks_for_it_and_never_relayed(tmp_path):
    with relaying(tmp_path) as running:
        running.challenge = running.proof
        tls, shown = running.ask("acme-tls/1")
        with tls:
            assert tls.selected_alpn_protocol() == "acme-tls/1"
            assert shown == leaf(running.proof)
            tls.sendall(get())
            assert tls.recv(100) == b""
        assert running.dialled == 0


@pytest.mark.parametrize("proving", [True, False])
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2", "http/1.1")])
def test_all_others_are_served_as_ever(tmp_path, proving, protocols):
    with relaying(tmp_path) as running:
        running.challenge = running.proof if proving else None
        tls, shown = running.ask(*protocols)
        with tls:
            assert shown == leaf(running.usual)
            tls.sendall(get(b"/as-ever"))
            assert b"GET /as-ever" in tls.recv(1000)


def test_without_a_name_to_prove_nobody_is_shown_a_proof(tmp_path):
    with relaying(tmp_path) as running:
        tls, shown = running.ask("http/1.1", "acme-tls/1")
        with tls:
            assert shown == leaf(running.usual)


def test_a_hello_that_comes_byte_by_byte(tmp_path):
    with relaying(tmp_path) as running:
        running.challenge = running.proof
        with _Slow(running.port) as client:
            assert client.ask(get(b"/slowly"))[2] == b"GET /slowly "


class _Slow(Client):
    def _flush(self) -> None:
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in self._out.read():
            self.raw.sendall(bytes((byte,)))


def header(address: str = "192.0.2.7") -> bytes:
    return f"PROXY TCP4 {address} 198.51.100.1 4711 443\r\n".encode()


def test_a_header_and_a_proof(tmp_path):
    with relaying(tmp_path, accept_proxy=(ip_network("127.0.0.0/8"),)) as running:
        running.challenge = running.proof
        raw = socket.create_connection(("127.0.0.1", running.port), timeout=30)
        raw.sendall(header())
        context = any_certificate()
        context.set_alpn_protocols(["acme-tls/1"])
        with context.wrap_socket(raw) as tls:
            assert tls.getpeercert(binary_form=True) == leaf(running.proof)
            assert tls.recv(10) == b""


def test_who_must_send_a_header_and_sends_none_is_told_of_and_closed(tmp_path):
    with relaying(tmp_path, accept_proxy=(ip_network("127.0.0.0/8"),)) as running:
        peer = Peer(socket.create_connection(("127.0.0.1", running.port)))
        with peer.raw:
            peer.send(Client.hello())
            assert peer.recv() == b""
        assert running.said == ["no PROXY protocol from 127.0.0.1: it does not begin with a header"]
        assert running.tally.total(REFUSED) == 1


def test_who_breaks_off_before_tls_is_forgotten(tmp_path):
    with relaying(tmp_path, accept_proxy=(ip_network("127.0.0.0/8"),)) as running:
        for data in (b"", b"PROXY", header(), header() + Client.hello()[:20]):
            with socket.create_connection(("127.0.0.1", running.port)) as raw:
                raw.sendall(data)
        with socket.create_connection(("127.0.0.1", running.port)) as raw:
            raw.sendall(header())
            with any_certificate().wrap_socket(raw, server_hostname="localhost") as tls:
                tls.sendall(get(b"/after"))
                assert b"GET /after" in tls.recv(1000)
        assert running.said == []
