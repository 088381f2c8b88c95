"""What a listener says of clients that may not call: each of them, none all the time, and no more than can be read."""

from __future__ import annotations

import pytest

from sslterm.relay.listener import Listener, bind
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Policy
from sslterm.relay.tally import EXPIRED, NOT_ALLOWED
from sslterm.settings import Address, Settings


@pytest.fixture
def listener():
    said = []
    policy = Policy(
        settings=Settings(), context=lambda: None, backends=(), access_log=None, report=lambda *line: said.append(line)
    )
    relay = Relay()
    made = Listener(relay, bind(Address("127.0.0.1", 0)), policy)
    yield made, said
    made.close()
    relay.stop()
    relay.run()


def test_each_client_once_in_a_while(listener):
    listener, said = listener
    for _ in range(3):
        listener.deny(NOT_ALLOWED, "192.0.2.1", "api is not allowed to call")
        listener.deny(NOT_ALLOWED, "192.0.2.1", "web is not allowed to call")
        listener.deny(EXPIRED, "192.0.2.2", "the certificate of api has expired")

    assert said == [
        ("WARNING", "denied 192.0.2.1: api is not allowed to call"),
        ("WARNING", "denied 192.0.2.1: web is not allowed to call"),
        ("WARNING", "denied 192.0.2.2: the certificate of api has expired"),
    ]
    assert (listener.tally[NOT_ALLOWED], listener.tally[EXPIRED]) == (6, 3)
    said.clear()
    listener.relay.now += 10
    listener.deny(NOT_ALLOWED, "192.0.2.1", "api is not allowed to call")
    assert len(said) == 1


def test_a_flood_of_them_is_cut_short_and_hides_nothing_else(listener):
    listener, said = listener
    for number in range(1000):
        listener.deny(NOT_ALLOWED, f"192.0.2.{number}", "x is not allowed to call")
    listener.complain("ERROR", "something else")

    assert len(said) == 258
    assert said[256:] == [
        ("WARNING", "more than 256 clients were denied; not all of them are told of"),
        ("ERROR", "something else"),
    ]
    assert listener.tally[NOT_ALLOWED] == 1000
    said.clear()
    listener.relay.now += 10
    listener.deny(NOT_ALLOWED, "192.0.2.1", "x is not allowed to call")
    assert said == [("WARNING", "denied 192.0.2.1: x is not allowed to call")]
