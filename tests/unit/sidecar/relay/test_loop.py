"""The relay's loop, on a thread of this process: timers, calls from other threads, and defects of our own."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

from lab.backend import backend, echo_requests
from lab.certificates import make
from lab.client import Client, get
from lab.sidecar import wait_until
from sslterm.protocol.http_flow import HttpFlow
from sslterm.relay import listener as listener_module
from sslterm.relay.listener import bind
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Backend, Policy
from sslterm.settings import Address, Settings


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    server.load_cert_chain(*make("localhost").write(tmp_path_factory.mktemp("pair")))
    return server


@contextmanager
def serving(context, settings=None):
    """A relay in front of an echoing backend; its port, and what it reported."""
    with backend(echo_requests) as server:
        reports = []
        relay = Relay()
        policy = Policy(
            settings=settings or Settings(),
            context=context if callable(context) else lambda: context,
            backends=(Backend(socket.AF_INET, ("127.0.0.1", server.port)),),
            access_log=None,
            report=lambda level, text: reports.append((level, text)),
        )
        sock = bind(Address("127.0.0.1", 0))
        port = sock.getsockname()[1]
        relay.add(sock, policy)
        thread = threading.Thread(target=relay.run)
        thread.start()
        try:
            yield relay, port, reports
        finally:
            relay.drain(1)
            thread.join(30)
        assert not thread.is_alive()
        assert not relay.connections


def test_timers_come_in_order_and_not_once_cancelled():
    relay = Relay()
    called = []
    for when in (3, 1, 2):
        relay.call_at(relay.now + when / 1000, lambda when=when: called.append(when))
    dead = relay.call_at(relay.now + 0.0015, lambda: called.append("cancelled"))
    dead.cancel()
    relay.call_at(relay.now + 0.004, relay._stop)
    relay.run()

    assert called == [1, 2, 3]


def test_calls_after_the_end_are_too_late_but_no_error():
    relay = Relay()
    relay.stop()
    relay.run()
    relay.stop()
    relay.drain(1)


def test_a_socket_is_closed_only_after_the_turn_in_which_it_was_given_up():
    """Else its number could be taken again, and an event of the old socket be taken for one of the new one."""
    relay = Relay()
    ours, theirs = socket.socketpair()
    alive = []

    def give_up():
        relay.bury(ours)
        alive.append(ours.fileno() >= 0)

    relay.call(give_up)
    relay.call_at(relay.now + 0.001, relay._stop)
    relay.run()

    assert alive == [True]
    assert ours.fileno() == -1
    theirs.close()


@pytest.mark.parametrize("method", ["from_client", "from_backend"])
def test_a_defect_costs_one_connection_and_is_told(context, monkeypatch, method):
    right = getattr(HttpFlow, method)

    def wrong(self, data, now):
        if b"/boom" in bytes(data):
            raise KeyError("a defect")
        return right(self, data, now)

    monkeypatch.setattr(HttpFlow, method, wrong)
    with serving(context) as (relay, port, reports), Client(port) as other:
        assert other.ask(get())[0] == 200
        client = Client(port)
        client.send(get(b"/boom"))
        assert client.is_cut()
        client.raw.close()
        assert other.ask(get())[0] == 200
        assert len(relay.connections) == 1
    assert [level for level, _ in reports] == ["ERROR"]
    assert "KeyError('a defect')" in reports[0][1]
    assert "test_loop.py" in reports[0][1], "it says where"


@pytest.mark.parametrize("broken", ["drain", "client_lost", "client_late"])
def test_a_defect_in_how_things_end_is_no_hang(context, monkeypatch, broken):
    def wrong(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(HttpFlow, broken, wrong)
    with serving(context, settings=Settings(keepalive_timeout=0.05)) as (relay, port, reports):
        client = Client(port)
        client.ask(get())
        if broken == "client_lost":
            client.raw.close()
        elif broken == "drain":
            relay.drain(1)
        else:
            client.is_cut()
        wait_until(lambda: reports, "a word about it")
        wait_until(lambda: not relay.connections, "the end of the connection")
        client.raw.close()


def test_a_connection_that_cannot_even_begin_is_closed_and_the_next_is_served(context):
    first = iter([True])

    def not_at_first():
        if next(first, False):
            raise RuntimeError("no context")
        return context

    with serving(not_at_first) as (_, port, reports):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Client(port)
        with Client(port) as client:
            assert client.ask(get())[0] == 200
        assert [level for level, _ in reports] == ["ERROR"]
        assert "no context" in reports[0][1]


def test_the_same_complaint_is_not_repeated_and_many_are_no_flood(context):
    with serving(context) as (relay, _, reports):
        wait_until(lambda: relay._listeners, "a listener")
        listener = relay._listeners[0]
        for _ in range(10):
            listener.complain("WARNING", "the same")
        assert len(reports) == 1
        for number in range(1000):
            listener.complain("WARNING", f"another {number}")
        assert len(reports) == listener_module._SUBJECTS
