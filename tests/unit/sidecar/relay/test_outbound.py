"""Calls to others in a relay of this process: whom of several addresses they reach, and what a lookup may cost."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest

from lab.backend import backend
from lab.calls import CA, CALLER, SERVER, Program
from lab.sidecar import free_port, wait_until
from sslterm.certs.bundle import Bundle
from sslterm.certs.context import build_client
from sslterm.relay import resolver
from sslterm.relay.listener import bind
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Backend, Policy
from sslterm.relay.tally import ACCEPTED, OPEN, OUTBOUND, OUTBOUND_FAILED, Tally
from sslterm.settings import Address, Outbound, Settings, TlsProfile

CLIENT = build_client(Bundle(CALLER.cert, CALLER.key, "c", "k"), TlsProfile.INTERMEDIATE, CA.pem, "ca")
HOST = "localhost"


class Running:
    def __init__(self):
        self.relay, self.tally, self.said = Relay(), Tally(), []

    def outlet(self, port, host=HOST, **settings):
        """A port that leads to this one of `host`."""
        listener = bind(Address("127.0.0.1", 0))
        outbound = Outbound(Address(*listener.getsockname()), Address(host, port))
        policy = Policy(
            settings=Settings(outbound=(outbound,), client_ca="/ca", **settings),
            context=lambda: CLIENT,
            outbound=outbound,
            access_log=None,
            report=lambda level, text: self.said.append(text),
            tally=self.tally,
        )
        self.relay.add(listener, policy)
        return outbound.local.port


@pytest.fixture
def running():
    found = Running()
    thread = threading.Thread(target=found.relay.run)
    thread.start()
    yield found
    found.relay.drain(5)
    thread.join(30)
    assert not thread.is_alive()
    assert not found.relay.connections
    assert found.tally.mine[OPEN] == found.tally.mine[ACCEPTED] == 0


@pytest.fixture
def tls(tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*SERVER.write(tmp_path))
    return context


@contextmanager
def at(host, port, handle):
    """Something that does `handle` with whoever connects there; how many did."""
    listener = socket.create_server((host, port))
    count = []

    def accept():
        with suppress(OSError):
            while True:
                raw, _ = listener.accept()
                count.append(raw)
                with raw:
                    handle(raw)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield count
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


def answers(context, said=b"here"):
    def handle(raw):
        raw.settimeout(30)
        with suppress(OSError), context.wrap_socket(raw, server_side=True) as tls:
            tls.sendall(said)
            tls.unwrap()

    return handle


def look_up_by(monkeypatch, getaddrinfo):
    """In the resolver's threads, and nowhere else."""
    names = {name: getattr(socket, name) for name in ("AF_INET", "AF_INET6", "SOCK_STREAM")}
    monkeypatch.setattr(resolver, "socket", SimpleNamespace(getaddrinfo=getaddrinfo, **names))


def resolves_to(monkeypatch, *hosts):
    def getaddrinfo(_host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    look_up_by(monkeypatch, getaddrinfo)


def call(port):
    """What a call brings; None if it is reset."""
    try:
        with Program(port) as program:
            data = program.rest()
            program.end()
            return data
    except ConnectionResetError:
        return None


def test_whichever_of_all_addresses_answers_is_taken(running, monkeypatch, tls):
    resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4")
    port = free_port()
    with at("127.0.0.3", port, answers(tls)):
        outlet = running.outlet(port)
        assert [call(outlet) for _ in range(12)] == [b"here"] * 12
    assert (running.tally.mine[OUTBOUND], running.tally.mine[OUTBOUND_FAILED]) == (12, 0)
    assert running.said == []


def test_all_of_them_get_their_share(running, monkeypatch, tls):
    hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    resolves_to(monkeypatch, *hosts)
    random.seed(1)
    port = free_port()
    with ExitStack() as all_of_them:
        counts = [all_of_them.enter_context(at(host, port, answers(tls))) for host in hosts]
        outlet = running.outlet(port)
        for _ in range(40):
            assert call(outlet) == b"here"
        assert all(counts)


def test_one_that_breaks_off_the_handshake_is_not_the_last(running, monkeypatch, tls):
    resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3")
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    port = free_port()
    with at("127.0.0.2", port, lambda raw: raw.recv(9)) as broken, at("127.0.0.3", port, answers(tls)):
        assert call(running.outlet(port)) == b"here"
        assert len(broken) == 1


def test_one_with_the_wrong_certificate_is_the_end(running, monkeypatch, tls, tmp_path):
    resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3")
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    wrong = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrong.load_cert_chain(*CA.issue("another").write(tmp_path / "wrong"))
    port = free_port()
    with at("127.0.0.2", port, answers(wrong)), at("127.0.0.3", port, answers(tls)) as right:
        assert call(running.outlet(port)) is None
        assert not right
        wait_until(lambda: running.said, "a line")
    assert "at 127.0.0.2: certificate verify failed: Hostname mismatch" in running.said[0]


def test_one_that_is_silent_has_only_its_share_of_the_time(running, monkeypatch, tls):
    resolves_to(monkeypatch, "127.0.0.2", "127.0.0.3")
    monkeypatch.setattr(random, "shuffle", lambda _: None)
    port = free_port()
    with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
        silent.bind(("127.0.0.2", port))
        silent.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(("127.0.0.2", port))
        with at("127.0.0.3", port, answers(tls)):
            assert call(running.outlet(port, connect_timeout=2.0)) == b"here"


def test_an_outlet_of_ours_is_none_of_the_addresses(running):
    outlet = running.outlet(1)
    with backend(lambda peer: peer.rest()) as server:
        listener = bind(Address("127.0.0.1", 0))
        itself = Outbound(Address(*listener.getsockname()), Address("127.0.0.1", listener.getsockname()[1]))
        policy = Policy(
            settings=Settings(outbound=(itself,), client_ca="/ca"), context=lambda: CLIENT, outbound=itself,
            access_log=None, report=lambda level, text: running.said.append(text), tally=running.tally,
        )  # fmt: skip
        running.relay.add(listener, policy)
        assert call(itself.local.port) is None
        assert server.accepted == 0
    assert call(outlet) is None
    assert any("leads back to this sidecar's own outbound port" in line for line in running.said)


class Slow:
    """A name server that answers when it is told to."""

    def __init__(self, monkeypatch):
        self.answer = threading.Event()
        self.asked = []
        self.left = 0
        look_up_by(monkeypatch, self)

    def __call__(self, host, port, **_):
        self.asked.append(host)
        if host == "slow":
            self.answer.wait(30)
        self.left += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def slow(monkeypatch):
    found = Slow(monkeypatch)
    yield found
    found.answer.set()
    wait_until(lambda: found.left == len(found.asked), "the end of all lookups")


def test_a_slow_name_server_keeps_nobody_else_waiting_and_is_asked_once_at_a_time(running, slow, tls):
    port = free_port()
    with at("127.0.0.1", port, answers(tls)):
        waiting = running.outlet(port, "slow", connect_timeout=30.0)
        programs = [Program(waiting) for _ in range(20)]
        wait_until(lambda: running.tally.mine[OPEN] == 20, "twenty calls that wait")
        assert call(running.outlet(port)) == b"here"
        assert slow.asked.count("slow") == 1
        slow.answer.set()
        for each in programs:
            assert each.is_cut()  # it answers now, with a certificate for another name
            each.close()
        assert call(waiting) is None
        assert slow.asked.count("slow") == 2


def test_a_name_server_that_does_not_answer_is_not_waited_for(running, slow):
    outlet = running.outlet(free_port(), "slow", connect_timeout=0.2)
    for _ in range(3):
        assert call(outlet) is None
    assert slow.asked == ["slow"]
    assert ["did not resolve in time" in line for line in running.said] == [True]


def test_a_program_that_left_meanwhile_is_forgotten(running, slow):
    outlet = running.outlet(free_port(), "slow", connect_timeout=30.0)
    with Program(outlet) as program:
        wait_until(lambda: running.tally.mine[OPEN] == 1, "a call that waits")
        program.reset()
    wait_until(lambda: running.tally.mine[OPEN] == 0, "nobody")


@pytest.mark.parametrize("fault", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_that_is_none_is_told(running, monkeypatch, fault):
    def getaddrinfo(*_, **__):
        raise fault

    look_up_by(monkeypatch, getaddrinfo)
    assert call(running.outlet(1)) is None
    assert f": does not resolve ({fault.args[-1]})" in running.said[0]


def test_without_a_thread_to_be_had_the_call_fails_and_the_next_may_not(running, monkeypatch, tls):
    port = free_port()
    outlet = running.outlet(port)
    with at("127.0.0.1", port, answers(tls)):
        with monkeypatch.context() as limited:
            limited.setattr(threading.Thread, "start", refuse)
            assert call(outlet) is None
        assert call(outlet) == b"here"
    assert "no thread is left to look it up" in running.said[0]


def refuse(_self):
    raise RuntimeError("can't start new thread")


def test_an_address_is_not_looked_up(running, slow, tls):
    port = free_port()
    with at("127.0.0.1", port, answers(tls)):
        assert call(running.outlet(port, "127.0.0.1")) == b"here"
    assert slow.asked == []
    assert Backend(socket.AF_INET6, ("::1", 1)) == resolver.Resolver(running.relay, Address("::1", 1))._known[0]
