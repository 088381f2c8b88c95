"""The socket to the backend: which address is taken, and what happens when it breaks."""

from __future__ import annotations

import errno
import select
import socket

import pytest

from lab.backend import Peer
from lab.sidecar import free_port, wait_until
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Backend
from sslterm.relay.upstream import Upstream


class Ready:
    """What a connection does with an upstream that is ready: says so, and goes on to connect."""

    def __init__(self, upstream):
        self.upstream = upstream
        self.failed = []
        self.masks = []

    def __call__(self, mask):
        if self.upstream.connecting:
            self.failed.append(self.upstream.connected())
            self.upstream.watch(read=True)
        else:
            self.masks.append(mask)
            if mask & select.EPOLLOUT:
                self.upstream.flush()
                self.upstream.watch(read=True)


@pytest.fixture
def relay():
    relay = Relay()
    yield relay
    relay.stop()
    relay.run()


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def at(port, host="127.0.0.1"):
    return Backend(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))


def turn(relay, condition, what):
    def look():
        relay.call_at(relay.now, lambda: None)
        relay._turn()
        return condition()

    return wait_until(look, what)


def test_what_was_sent_before_the_connection_is_there_arrives_with_it(relay, server):
    upstream = Upstream(relay, (at(server.getsockname()[1]),))
    ready = Ready(upstream)
    upstream.send(b"hello ")
    assert upstream.dial(ready) == 0
    upstream.send(b"world")
    peer = Peer(server.accept()[0])
    turn(relay, lambda: not upstream.connecting and not upstream.pending, "a connection")
    assert peer.exactly(11) == b"hello world"
    upstream.drop()
    relay._close_buried()
    assert peer.rest() == b""
    peer.close()


def test_the_next_address_is_tried_when_one_refuses_and_nothing_is_lost(relay, server):
    port = server.getsockname()[1]
    unknown_family = Backend(12345, ("127.0.0.1", port))  # as IPv6 is on a kernel without it
    upstream = Upstream(relay, (unknown_family, at(free_port()), at(free_port(), "::1"), at(port)))
    upstream.send(b"hello")
    assert upstream.dial(Ready(upstream)) == 0
    turn(relay, lambda: upstream.socket and not upstream.connecting, "a connection")
    peer = Peer(server.accept()[0])
    assert peer.exactly(5) == b"hello"
    upstream.drop()
    peer.close()


def test_when_all_refuse_the_reason_of_the_last_is_told_and_the_next_dial_begins_with_the_first(relay, server):
    ports = free_port(), free_port()
    upstream = Upstream(relay, tuple(map(at, ports)))
    ready = Ready(upstream)
    for _ in range(2):
        upstream.send(b"hello")
        failed = upstream.dial(ready)
        if not failed:
            turn(relay, lambda: any(ready.failed), "a refusal")
            failed = ready.failed.pop()
        assert failed == errno.ECONNREFUSED
        assert upstream.socket is None
        assert upstream.pending == b""


def test_a_write_to_a_socket_that_was_reset_is_no_error_and_reading_tells(relay, server):
    upstream = Upstream(relay, (at(server.getsockname()[1]),))
    ready = Ready(upstream)
    upstream.dial(ready)
    turn(relay, lambda: not upstream.connecting, "a connection")
    peer = Peer(server.accept()[0])
    peer.send(b"too large")
    peer.reset()
    turn(relay, lambda: any(mask & select.EPOLLHUP for mask in ready.masks), "the reset")
    upstream.send(b"x")
    upstream.send(b"y")
    assert upstream.pending == b""
    upstream.drop(reset=True)


def test_a_half_close_waits_for_what_is_to_be_written(relay, server):
    upstream = Upstream(relay, (at(server.getsockname()[1]),))
    upstream.dial(Ready(upstream))
    upstream.close_write()
    turn(relay, lambda: not upstream.connecting, "a connection")
    peer = Peer(server.accept()[0])
    while not upstream.pending:
        upstream.send(bytes(1 << 20))
    upstream.close_write()
    upstream.watch(read=False)
    total = 0
    peer.raw.settimeout(0.01)
    while True:
        turn(relay, lambda: True, "a turn")
        if not upstream.pending:
            upstream.close_write()
        try:
            data = peer.recv(1 << 20)
        except TimeoutError:
            continue
        if not data:
            break
        total += len(data)
    assert total
    assert total % (1 << 20) == 0
    upstream.drop()
    peer.close()
