"""A call that comes to nothing is reset, never ended in order, and the log says why; nobody gets a byte unverified."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest

from lab.backend import backend, echo
from lab.calls import ALLOWED, CA, CALLER, SERVER, Program, calling, files, serving
from lab.certificates import make
from lab.client import access_lines
from lab.private_ca import BOTH, CLIENT, PrivateCa
from lab.sidecar import PATIENCE, free_port, refused, wait_until

OTHER_CA = PrivateCa.made("of somebody else")
SECRET = b"a secret of the application"


def is_reset(port: int) -> bool:
    """Whether a program that says its secret and goes on to listen is reset, and nothing else."""
    try:
        with Program(port) as program:
            with suppress(OSError):  # reset before it has said it
                program.send(SECRET)
                program.end()
            data = program.recv()
    except ConnectionResetError:
        return True
    assert not data
    return False


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (OTHER_CA.issue("localhost", usage=BOTH), "certificate verify failed: unable to get local issuer certificate"),
        (CA.issue("db.example", usage=BOTH), "Hostname mismatch, certificate is not valid for 'localhost'"),
        (CA.issue("localhost", begins=-9, ends=-1, usage=BOTH), "certificate verify failed: certificate has expired"),
        (CA.issue("localhost", usage=CLIENT), r"certificate verify failed: uns\w+ certificate purpose"),
        (CA.issue("127.0.0.1", usage=BOTH), "Hostname mismatch"),
        (make("localhost"), "certificate verify failed: self.signed certificate"),
    ],
    ids=["foreign", "wrong name", "expired", "a client's", "an address for a name", "self-signed"],
)
def test_a_server_that_cannot_prove_itself_gets_nothing(near, far, pem, why):
    with tls_server(far, pem) as (port, got), calling(near, port) as web:
        assert is_reset(web.outlet)
        web.wait_for(rf"WARN  outbound=127\.0\.0\.1:{web.outlet}=localhost:{port} at 127\.0\.0\.1: .*{why}")
        line = access_lines(web, 1)[0]
        assert f"| out localhost:{port} | 0/0 | " in line
    assert b"".join(got) == b""


@contextmanager
def tls_server(folder, pem, newest=ssl.TLSVersion.TLSv1_3):
    """A TLS server that says bye at the end, and tells what it got in plain text; its port, and that."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(*pem.write(folder))
    got = []

    def serve(peer):
        with suppress(OSError), context.wrap_socket(peer.raw, server_side=True) as tls:
            while data := tls.recv():
                got.append(data)
            tls.sendall(b"bye")
            tls.unwrap()

    with backend(serve) as server:
        yield server.port, got


@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_a_server_of_tls_1_2_will_do_unless_the_profile_is_modern(near, far, profile):
    with tls_server(far, SERVER, ssl.TLSVersion.TLSv1_2) as (port, got), calling(
        near, port, f"--tls-profile={profile}"
    ) as web:  # fmt: skip
        if profile == "modern":
            assert is_reset(web.outlet)
            web.wait_for("WARN .*: TLS: .*protocol version")
        else:
            with Program(web.outlet) as program:
                program.send(b"hello")
                program.end()
                assert program.rest() == b"bye"
    assert b"".join(got) == (b"" if profile == "modern" else b"hello")


@pytest.mark.parametrize("answer", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_server_that_speaks_no_tls_gets_no_plain_text(near, answer):
    def plain(peer):
        hello = peer.recv()
        peer.send(answer)
        if answer:
            hello += peer.rest()
        server.seen.put(hello)

    with backend(plain) as server, calling(near, server.port) as web:
        assert is_reset(web.outlet)
        web.wait_for(f"WARN .*localhost:{server.port}.*: (TLS: |connection closed during)")
        assert SECRET not in server.sees()


def test_nobody_there(near):
    with calling(near, free_port()) as web:
        assert is_reset(web.outlet)
        web.wait_for("WARN  outbound=.*: Connection refused")


def test_a_name_that_nobody_has(near):
    port = free_port()
    with calling(near, 1, f"--outbound=:{port}=no.such.invalid:5432") as web:
        assert is_reset(port)
        web.wait_for("WARN  outbound=.*=no.such.invalid:5432: does not resolve")


def test_a_server_that_is_silent(near):
    with (
        backend(lambda peer: peer.rest()) as server,
        calling(near, server.port, "--handshake-timeout=300ms") as web,
    ):
        assert is_reset(web.outlet)
        web.wait_for("WARN .*: did not finish the TLS handshake in time")


def test_a_server_whose_queue_is_full(near):
    """As one that is gone without a word: nothing answers."""
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        port = silent.getsockname()[1]
        with calling(near, port, "--connect-timeout=600ms") as web:
            assert is_reset(web.outlet)
            web.wait_for("WARN .*: did not accept the connection in time")


def test_a_call_to_itself_ends(near):
    port = free_port()
    with calling(near, 1, f"--outbound=:{port}=localhost:{port}") as web:
        assert is_reset(port)
        web.wait_for("WARN .*: leads back to this sidecar's own outbound port")
        assert len(access_lines(web, 1)) == 1


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (OTHER_CA.issue("web", usage=BOTH), "TLS: .*alert (unknown ca|decrypt error)"),
        (CA.issue("web", begins=-9, ends=-1, usage=BOTH), "TLS: .*alert certificate expired"),
        (CA.issue("web"), "TLS: .*alert (unsupported certificate|bad certificate)"),
    ],
    ids=["foreign", "expired", "only a server's"],
)
def test_a_server_that_does_not_accept_our_certificate(near, far, pem, why):
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port, pem=pem) as web:
        assert is_reset(web.outlet)
        web.wait_for(f"WARN  outbound=.*: {why}")
        assert server.accepted == 0


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_a_stream_that_is_cut_is_seen_to_be_cut(near, far, how):
    """Not by the other sidecar, whose own cuts are resets: a TCP stream that somebody ended on the way."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*SERVER.write(far))

    def half(peer):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                peer.send(outgoing.read())
                incoming.write(peer.recv())
        tls.write(b"the first half")
        peer.send(outgoing.read())
        server.wait()
        if how == "reset":
            peer.reset()

    with backend(half) as server, calling(near, server.port) as web, Program(web.outlet) as program:
        assert program.exactly(14) == b"the first half"
        server.go_on()
        assert program.is_cut()
        assert "connection" in access_lines(web, 1)[0].split(" | ")[-1]


def test_a_server_sees_that_the_caller_was_cut(near, far):
    def tell(peer):
        server.seen.put(b"cut" if peer.is_cut() else b"whole")

    with backend(tell) as server, serving(far, server) as db, calling(near, db.port) as web:
        with Program(web.outlet) as program:
            program.send(b"half of it")
            wait_until(lambda: server.accepted, "the call at the backend")
            program.reset()
        assert server.sees() == b"cut"
        access_lines(web, 1)


def test_a_call_without_a_byte_for_too_long_is_cut(near, far):
    with (
        backend(echo) as server,
        serving(far, server) as db,
        calling(near, db.port, "--idle-timeout=500ms") as web,
        Program(web.outlet) as program,
    ):
        program.send(b"hello")
        assert program.exactly(5) == b"hello"
        assert program.is_cut()
        assert access_lines(web, 1)[0].endswith("| timed out")


def test_calls_and_clients_share_one_limit(near, far):
    with (
        backend(echo) as server,
        serving(far, server) as db,
        calling(near, db.port, "--max-connections=2") as web,
    ):
        programs = [Program(web.outlet) for _ in range(3)]
        for each in programs:
            each.send(b"x")
        assert [each.exactly(1) for each in programs[:2]] == [b"x", b"x"]
        web.wait_for("max-connections=2 reached: new clients wait")
        programs[0].close()
        assert programs[2].exactly(1) == b"x"
        for each in programs[1:]:
            each.close()


def test_a_hundred_calls_at_once_that_fail_leave_nothing_and_a_few_lines(near):
    with calling(near, free_port()) as web:
        threads = [threading.Thread(target=is_reset, args=(web.outlet,)) for _ in range(100)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(PATIENCE)
        assert len(access_lines(web, 100)) == 100
        assert 1 <= len(web.said("WARN")) <= 3


def test_a_bundle_without_authorities_is_refused_at_the_start(near):
    flags = files(near, CALLER)
    (near / "ca.pem").write_bytes(os.urandom(9))
    result = refused("--outbound=:5432=db:5432", *flags, f"--frontend-addr=127.0.0.1:{free_port()}")

    assert result.returncode == 2
    assert f"client-ca: {near / 'ca.pem'}: not PEM" in result.stderr


def test_not_allowed_is_for_the_server_to_say(near, far):
    """Its sidecar ends such a call, and no byte of it gets through."""
    other = CA.issue("api", "spiffe://byfahrer.internal/ns/shop/svc/api", usage=BOTH)
    with backend(echo) as server, serving(far, server, ALLOWED) as db, calling(near, db.port, pem=other) as web:
        with Program(web.outlet) as program:
            program.send(SECRET)
            with suppress(ConnectionResetError):
                assert program.rest() == b""
        db.wait_for("denied 127.0.0.1: spiffe://byfahrer.internal/ns/shop/svc/api is not allowed to call")
        assert server.accepted == 0
