"""The TLS session, against OpenSSL as its client, in memory."""

from __future__ import annotations

import contextlib
import itertools
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.certificates import make
from lab.sidecar import any_certificate
from sslterm.protocol.tls import RECORD, CertificateError, PlainHttpError, TlsError, TlsSession, TlsTruncatedError

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    server.load_cert_chain(*make("localhost").write(tmp_path_factory.mktemp("pair")))
    server.set_alpn_protocols(["http/1.1"])
    return server


class Client:
    """OpenSSL on the other end of two buffers."""

    def __init__(self, context, version=ssl.TLSVersion.TLSv1_3, alpn=()):
        own = any_certificate()
        own.minimum_version = own.maximum_version = version
        if alpn:
            own.set_alpn_protocols(alpn)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = own.wrap_bio(self.incoming, self.outgoing)
        self.session = TlsSession(context)

    def step(self):
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def send(self, data=None):
        """What the client has to send (or `data`) arrives."""
        self.session.feed(memoryview(self.outgoing.read() if data is None else data))

    def receive(self):
        self.incoming.write(self.session.take())

    def shake(self):
        while not (self.step() and self.session.open):
            self.send()
            self.session.handshake()
            self.receive()
        return self

    def read(self):
        buffer = memoryview(bytearray(4 * RECORD))
        return bytes(buffer[: self.session.read_into(buffer)])

    def close(self):
        with contextlib.suppress(ssl.SSLWantReadError):  # the peer's own close_notify, if it has not come yet
            self.tls.unwrap()


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_pass_both_ways(context, version):
    client = Client(context, version).shake()
    client.tls.write(b"hello")
    client.send()
    assert client.read() == b"hello"
    assert not client.session.incoming.pending
    client.session.write(b"world" * 20000)
    assert client.session.outgoing.pending > 100000
    client.receive()
    assert b"".join(iter(lambda: read_some(client.tls), b"")) == b"world" * 20000


def read_some(tls):
    try:
        return tls.read(65536)
    except ssl.SSLWantReadError:
        return b""


def test_nothing_yet_is_no_error(context):
    client = Client(context).shake()

    assert client.read() == b""
    assert not client.session.ended


def test_what_a_buffer_cannot_take_is_kept(context):
    client = Client(context).shake()
    for number in range(9):
        client.tls.write(bytes([number]) * RECORD)
    client.send()
    first = client.read()

    assert len(first) == 4 * RECORD
    assert client.session.incoming.pending
    assert first + client.read() + client.read() == b"".join(bytes([n]) * RECORD for n in range(9))
    assert not client.session.incoming.pending


@pytest.mark.parametrize("version", VERSIONS)
def test_the_peers_end_is_seen_and_its_last_bytes_with_it(context, version):
    client = Client(context, version).shake()
    client.tls.write(b"last")
    client.close()
    client.send()

    assert client.read() == b"last"
    assert client.session.ended
    assert client.read() == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_without_close_notify_is_a_truncation_after_what_came_before(context, version):
    client = Client(context, version).shake()
    client.tls.write(b"half")
    client.send()
    client.session.feed_eof()

    assert client.read() == b"half"
    with pytest.raises(TlsTruncatedError):
        client.read()


@pytest.mark.parametrize("version", VERSIONS)
def test_after_our_end_the_peer_can_still_be_read(context, version):
    client = Client(context, version).shake()
    client.session.write(b"bye")
    client.session.close_write()
    client.session.close_write()
    client.receive()
    assert client.tls.read(10) == b"bye"
    for number in range(200):
        client.tls.write(b"%d " % number * 100)
        client.send()
        assert client.read() == b"%d " % number * 100
    client.close()
    client.send()
    assert client.read() == b""
    assert client.session.ended


def test_our_end_leaves_a_record_that_is_half_there_intact(context):
    client = Client(context).shake()
    client.tls.write(b"hello")
    record = client.outgoing.read()
    client.send(record[:-3])
    assert client.read() == b""
    client.session.close_write()
    client.send(record[-3:])

    assert client.read() == b"hello"


def test_close_write_before_the_handshake_does_nothing(context):
    client = Client(context)
    client.session.close_write()

    assert not client.session.write_closed


def test_plain_http_is_told_from_garbage(context):
    for said, error in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", PlainHttpError), (b"SSH-2.0-x\r\n" * 9, TlsError)):
        client = Client(context)
        client.send(said)
        with pytest.raises(error):
            client.session.handshake()


def test_an_end_in_the_handshake_is_a_truncation(context):
    client = Client(context)
    client.step()
    client.send(client.outgoing.read()[:50])
    assert not client.session.handshake()
    client.session.feed_eof()
    with pytest.raises(TlsTruncatedError):
        client.session.handshake()


def test_a_client_without_a_common_version_gets_an_alert(context):
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        client = Client(context, ssl.TLSVersion.TLSv1_2)
        client.step()
        client.send()
        with pytest.raises(TlsError, match="unsupported protocol"):
            client.session.handshake()
        assert client.session.take()[0] == 21, "an alert"
    finally:
        context.minimum_version = ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(("offered", "chosen"), [((), None), (("h2", "http/1.1"), "http/1.1"), (("h2",), None)])
def test_alpn_is_never_h2(context, offered, chosen):
    assert Client(context, alpn=offered).shake().session.alpn == chosen


@pytest.mark.parametrize("version", VERSIONS)
def test_a_record_that_was_changed_on_its_way_is_an_error(context, version):
    client = Client(context, version).shake()
    client.tls.write(b"hello")
    record = bytearray(client.outgoing.read())
    record[-1] ^= 1
    client.send(record)
    with pytest.raises(TlsError):
        client.read()


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_in_a_handshake_are_more_to_come_or_an_error(context, garbage, cut):
    client = Client(context)
    client.step()
    client.send(client.outgoing.read()[:cut] + garbage)
    assert outcome(client.session.handshake) in (False, TlsError, PlainHttpError)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3))
def test_any_bytes_in_an_open_session_are_nothing_or_an_error(context, garbage, cuts):
    client = Client(context).shake()
    for a, b in itertools.pairwise([0, *sorted(cuts), 300]):
        client.send(garbage[a:b])
        if outcome(client.read) is TlsError:
            return
    client.session.feed_eof()
    assert outcome(client.read) in (TlsError, TlsTruncatedError)


def outcome(what):
    try:
        return what()
    except TlsError as error:
        return type(error)


def both(context, version, name="localhost"):
    """The two forms of the session, each the other's peer, shaking hands until one of them has had enough."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    own.minimum_version = own.maximum_version = version
    own.load_verify_locations(cadata=LEAF.cert.decode())
    near, far = TlsSession(own, name), TlsSession(context)
    for _ in range(4):
        for side, other in ((near, far), (far, near)):
            if not side.open:
                side.handshake()
            other.feed(memoryview(side.take()))
    return near, far


LEAF = make("localhost")


@pytest.fixture(scope="module")
def localhost(tmp_path_factory):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    server.load_cert_chain(*LEAF.write(tmp_path_factory.mktemp("leaf")))
    return server


def plain(session):
    buffer = memoryview(bytearray(4 * RECORD))
    return bytes(buffer[: session.read_into(buffer)])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_verifies_and_talks_and_each_direction_ends_by_itself(localhost, version):
    near, far = both(localhost, version)
    near.write(b"a question")
    near.close_write()
    far.feed(memoryview(near.take()))
    assert (plain(far), far.ended) == (b"a question", True)
    far.write(b"an answer")
    near.feed(memoryview(far.take()))
    assert (plain(near), near.ended) == (b"an answer", False)
    far.close_write()
    near.feed(memoryview(far.take()))
    assert (plain(near), near.ended) == (b"", True)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_sees_a_stream_that_was_cut(localhost, version):
    near, far = both(localhost, version)
    far.write(b"half of it")
    near.feed(memoryview(far.take()))
    near.feed_eof()
    assert plain(near) == b"half of it"
    with pytest.raises(TlsTruncatedError):
        plain(near)


@pytest.mark.parametrize("name", ["example.org", "127.0.0.1", "localhost.example"])
def test_a_client_accepts_nobody_elses_name(localhost, name):
    with pytest.raises(CertificateError, match=r"certificate verify failed: .* mismatch"):
        both(localhost, ssl.TLSVersion.TLSv1_3, name)
