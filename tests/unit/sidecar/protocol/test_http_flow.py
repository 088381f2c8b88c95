"""
The flow of HTTP/1.1: conversations as data, and what a second reader (h11) makes of what we forward.

Long as `http_flow.py` is, which it mirrors: one state machine, and each conversation may lead into any of its states.
"""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.protocol.flows import Waiting
from sslterm.protocol.http_flow import HttpFlow

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
CHUNKED_POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Wire:
    """A connection without sockets: obeys the flow's decisions as `relay.connection` does."""

    def __init__(self, *, trusted=False, **who):
        self.flow = HttpFlow(peer=b"192.0.2.1", trusted=trusted, max_head_size=8192, **who)
        self.now = 0.0
        self.to_backend = b""
        self.to_client = b""
        self.dialled = 0
        self.connected = False
        self.records = []

    def client(self, data):
        out = self.flow.from_client(memoryview(data), self.now)
        self.to_backend += out
        self._obey()
        return self

    def backend(self, data):
        assert self.connected
        out = self.flow.from_backend(memoryview(data), self.now)
        self.to_client += out
        self._obey()
        return self

    def backend_ends(self, fault=""):
        assert self.connected
        self.to_backend += self.flow.backend_ended(self.now, fault)
        if fault or self.flow.waiting != Waiting.TUNNEL:
            self.connected = False
        self._obey()
        return self

    def tell(self, what, *args):
        getattr(self.flow, what)(*([self.now] if what != "drain" else []), *args)
        self._obey()
        return self

    def _obey(self):
        flow = self.flow
        while True:
            if flow.hang_up:
                flow.hang_up = False
                self.connected = False
            self.to_client += flow.reply
            flow.reply = b""
            if flow.lost or not flow.can_resume:
                break
            self.to_backend += flow.resume(self.now)
        if flow.dial:
            flow.dial = False
            self.dialled += not self.connected
            self.connected = True
        self.records += flow.records
        flow.records.clear()

    @property
    def statuses(self):
        return [record.status for record in self.records]

    @property
    def state(self):
        flow = self.flow
        return "lost" if flow.lost else "over" if flow.over else "open"


def request_seen_by_h11(data):
    """One request as a backend reads it: its event, its body."""
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    event = peer.next_event()
    assert type(event) is h11.Request, event
    return event, body_of(peer)


def body_of(peer):
    body = b""
    while type(event := peer.next_event()) is not h11.EndOfMessage:
        assert type(event) is h11.Data, event
        body += event.data
    return body


def response_seen_by_h11(data, method="GET", *, end=False):
    """One response as a client reads it: its event, its body, and what follows it."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    if end:
        peer.receive_data(b"")
    while type(event := peer.next_event()) is h11.InformationalResponse:
        pass
    assert type(event) is h11.Response, event
    return event, body_of(peer), peer.trailing_data[0]


# The plain course of things.


def test_a_request_goes_out_with_what_is_known_of_its_client():
    wire = Wire().client(b"GET /a HTTP/1.1\r\nHost: x:8443\r\nX-Real-Ip: 6.6.6.6\r\nUser-Agent: me\r\n\r\n")
    event, body = request_seen_by_h11(wire.to_backend)

    assert (event.method, event.target, body) == (b"GET", b"/a", b"")
    assert dict(event.headers) == {
        b"host": b"x:8443",
        b"user-agent": b"me",
        b"x-forwarded-for": b"192.0.2.1",
        b"x-real-ip": b"192.0.2.1",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"x:8443",
        b"x-forwarded-port": b"8443",
    }
    assert wire.dialled == 1
    assert wire.flow.waiting == Waiting.RESPONSE


def test_a_trusted_peer_may_say_for_whom_it_forwards():
    claims = b"X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: y\r\nX-Real-Ip: 7.7.7.7\r\n"
    wire = Wire(trusted=True).client(b"GET / HTTP/1.1\r\nHost: x\r\n" + claims + b"\r\n")
    headers = request_seen_by_h11(wire.to_backend)[0].headers

    assert [value for name, value in headers if name == b"x-forwarded-for"] == [b"7.7.7.7, 192.0.2.1"]
    assert [value for name, value in headers if name == b"x-forwarded-proto"] == [b"http"]
    assert [value for name, value in headers if name == b"x-forwarded-host"] == [b"y"]
    assert [value for name, value in headers if name == b"x-real-ip"] == [b"7.7.7.7"]
    assert [value for name, value in headers if name == b"x-forwarded-port"] == [b"443"]


CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n"
OK_1_0 = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
RESPONSES = {
    "length": (b"GET", OK, b"ok", False),
    "chunked": (b"GET", CHUNKED_OK, b"ok", False),
    "until close": (b"GET", b"HTTP/1.1 200 OK\r\n\r\nok", b"ok", True),
    "1.0 until close": (b"GET", b"HTTP/1.0 200 OK\r\n\r\nok", b"ok", True),
    "1.0 keep-alive": (b"GET", OK_1_0, b"ok", False),
    "no content": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", False),
    "204 with a length": (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", False),
    "not modified": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"", False),
    "HEAD": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", False),
    "HEAD, chunked": (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"", False),
    "interim first": (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b"ok", False),
    "empty": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", False),
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_a_response_is_what_the_backend_said(name, step):
    method, wire_format, body, ends = RESPONSES[name]
    wire = Wire().client(method + GET[3:])
    for at in range(0, len(wire_format), step):
        wire.backend(wire_format[at : at + step])
    if ends:
        wire.backend_ends()
    event, received, rest = response_seen_by_h11(wire.to_client, method.decode(), end=ends)

    assert (received, rest) == (body, b"")
    assert event.status_code == int(wire_format.rpartition(b"HTTP/1.")[2].split()[1])
    assert wire.statuses == [event.status_code]
    assert wire.records[0].sent == len(body)
    assert wire.state == ("over" if ends else "open")
    if ends:
        assert dict(event.headers)[b"connection"] == b"close"
    else:
        assert wire.client(GET).backend(OK).to_client.endswith(OK), "the next request goes on"
        assert wire.dialled == 1, "on the same connection"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_bodies_pass_in_both_framings(step):
    for head, body in ((POST, b"hello"), (CHUNKED_POST, b"3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n")):
        wire = Wire()
        for at in range(0, len(head + body), step):
            wire.client((head + body)[at : at + step])

        assert request_seen_by_h11(wire.to_backend)[1] == b"hello"
        assert wire.flow.waiting == Waiting.RESPONSE
        assert wire.backend(OK).records[0].received == 5


def test_pipelined_requests_are_answered_in_order_one_at_a_time():
    wire = Wire().client(GET + POST + b"hello" + b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")

    assert wire.to_backend.count(b"HTTP/1.1") == 1
    assert wire.flow.hold
    wire.backend(OK)
    assert wire.to_backend.count(b"HTTP/1.1") == 2
    wire.backend(OK)
    assert wire.to_backend.count(b"HTTP/1.1") == 3
    assert not wire.flow.hold
    wire.backend(OK)
    assert wire.statuses == [200, 200, 200]
    assert wire.to_client.count(b"200 OK") == 3
    assert wire.flow.idle


def test_an_empty_line_after_a_body_leaves_the_connection_idle():
    wire = Wire().client(POST + b"hello").backend(OK).client(b"\r\n")

    assert wire.flow.idle
    assert wire.flow.waiting == Waiting.NEXT_REQUEST
    assert wire.client(GET).backend(OK).statuses == [200, 200]


# Expect, interim responses, early responses.


def test_a_client_that_waits_for_100_gets_the_backends_own():
    wire = Wire().client(POST[:-2] + b"Expect: 100-continue\r\n\r\n")

    assert b"Expect: 100-continue" in wire.to_backend
    wire.backend(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.to_client == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.client(b"hello").backend(OK)
    assert wire.to_client.endswith(OK)
    assert wire.state == "open"


def test_a_refusal_instead_of_100_ends_the_connection():
    wire = Wire().client(POST[:-2] + b"Expect: 100-continue\r\n\r\n")
    wire.backend(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    assert b"Connection: close" in wire.to_client
    assert wire.state == "over"
    assert not wire.connected
    assert wire.statuses == [413]


def test_an_early_response_passes_while_the_body_still_comes_and_then_closes():
    wire = Wire().client(POST + b"he").backend(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
    wire.client(b"llo")

    assert wire.to_backend.endswith(b"hello")
    assert b"Connection: close" in wire.to_client
    assert wire.backend(b"ok").state == "over"


def test_a_flood_of_interim_responses_is_no_recursion():
    wire = Wire().client(GET).backend(b"HTTP/1.1 100 C\r\n\r\n" * 5000 + OK)

    assert wire.to_client.count(b" 100 ") == 5000
    assert wire.statuses == [200]


def test_a_client_of_http_1_0_gets_nothing_that_it_cannot_read():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n"
    wire = Wire().client(b"GET / HTTP/1.0\r\n\r\n").backend(b"HTTP/1.1 103 Early Hints\r\n\r\n" + chunked)
    head, body = wire.to_client.split(b"\r\n\r\n", 1)

    assert wire.to_backend.startswith(b"GET / HTTP/1.0\r\n")
    assert (head, body) == (b"HTTP/1.1 200 OK\r\nConnection: close", b"ok")
    assert wire.state == "over"


@pytest.mark.parametrize(
    ("response", "open_after"),
    [
        (OK, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
    ],
)
def test_a_client_of_http_1_0_may_keep_its_connection(response, open_after):
    wire = Wire().client(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").backend(response)

    assert (b"Connection: keep-alive" in wire.to_client) is open_after
    assert wire.state == ("open" if open_after else "over")


def test_the_answer_to_head_names_no_coding_to_http_1_0():
    wire = Wire().client(b"HEAD / HTTP/1.0\r\n\r\n").backend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    assert b"Transfer-Encoding" not in wire.to_client


# Upgrades.


def test_after_101_bytes_just_pass_and_each_direction_ends_on_its_own():
    wire = Wire().client(UPGRADE + b"early")
    assert b"\r\nConnection: Upgrade\r\n" in wire.to_backend
    assert wire.to_backend.endswith(b"\r\n\r\n"), "what follows waits for the answer"
    wire.backend(SWITCH + b"hi")

    assert wire.to_client.startswith(b"HTTP/1.1 101 ")
    assert wire.to_client.endswith(b"Connection: Upgrade\r\n\r\nhi")
    assert wire.to_backend.endswith(b"early")
    assert wire.client(b"GET / HTTP/1.1\r\n\r\n").to_backend.endswith(b"GET / HTTP/1.1\r\n\r\n")
    wire.tell("client_ended")
    assert (wire.flow.end_backend, wire.flow.end_client, wire.state) == (True, False, "open")
    wire.backend(b"bye").backend_ends()
    assert (wire.flow.end_client, wire.state) == (True, "over")
    assert [(r.status, r.received, r.sent) for r in wire.records] == [(101, 23, 5)]


def test_a_client_that_ended_before_101_ends_the_tunnel_too():
    wire = Wire().client(UPGRADE).tell("client_ended").backend(SWITCH)

    assert wire.flow.end_backend


@pytest.mark.parametrize(
    "asked", [GET, UPGRADE[:-2] + b"Content-Length: 5\r\n\r\n", UPGRADE.replace(b"websocket", b"h2c")]
)
def test_a_101_out_of_turn_is_refused(asked):
    wire = Wire().client(asked).backend(SWITCH)

    assert wire.statuses == [502]
    assert wire.state == "over"


# Faults of the client.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 9000, 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (CHUNKED_POST + b"zz\r\n", 400),
        (POST[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET, 400),
    ],
)
def test_a_request_at_fault_is_answered_and_never_forwarded(sent, status):
    wire = Wire().client(sent)
    event, body, rest = response_seen_by_h11(wire.to_client)

    assert event.status_code == status
    assert body.startswith(b"%d " % status)
    assert rest == b""
    assert dict(event.headers)[b"connection"] == b"close"
    assert wire.to_backend == b""
    assert (wire.dialled, wire.connected) == (0, False)
    assert wire.state == "over"
    assert wire.statuses == [status]
    assert wire.records[0].fault


def test_a_fault_in_a_body_cuts_the_backend_before_its_end():
    wire = Wire().client(CHUNKED_POST + b"5\r\nhello\r\n").client(b"x\r\n0\r\n\r\n")

    assert wire.statuses == [400]
    assert not wire.connected
    assert wire.to_backend.endswith(b"5\r\nhello\r\n"), "no last chunk"


def test_a_pipelined_fault_is_answered_after_the_response_before_it():
    wire = Wire().client(GET + b"nonsense\r\n\r\n" + GET)
    assert wire.to_client == b""
    wire.backend(OK)

    assert wire.statuses == [200, 400]
    assert wire.to_client.index(b"200 OK") < wire.to_client.index(b"400 Bad Request")
    assert wire.to_backend.count(b"GET") == 1
    assert wire.state == "over"


@pytest.mark.parametrize("sent", [GET[:9], POST, POST + b"he", CHUNKED_POST + b"5\r\nhel"])
def test_a_client_that_ends_in_the_middle_is_lost(sent):
    wire = Wire().client(sent).tell("client_ended")

    assert wire.state == "lost"
    assert wire.statuses == [499]


def test_a_client_that_half_closes_still_gets_all_its_answers():
    wire = Wire().client(GET + GET).tell("client_ended")
    assert wire.backend(OK).state == "open"
    wire.backend(OK)

    assert wire.statuses == [200, 200]
    assert wire.to_client.count(b"Connection: close") == 1
    assert wire.to_client.rindex(b"Connection: close") > wire.to_client.rindex(b"200 OK")
    assert wire.state == "over"


def test_half_of_a_pipelined_request_and_then_the_end_is_lost_but_what_came_before_is_answered():
    wire = Wire().client(GET + GET[:9]).tell("client_ended").backend(OK)

    assert wire.statuses == [200, 499]
    assert wire.state == "lost"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"", None), (GET[:9], 408), (POST, 408), (POST + b"he", 408), (CHUNKED_POST + b"5\r\nhel", 408)],
)
def test_a_late_client_is_told_so_unless_nothing_was_under_way(sent, answer):
    wire = Wire()
    if sent:
        wire.client(sent)
    wire.tell("client_late")

    assert wire.statuses == ([answer] if answer else [])
    assert wire.state == "over"
    assert not wire.connected


def test_a_client_late_in_the_middle_of_a_response_is_cut():
    wire = Wire().client(POST).backend(OK[:-1]).tell("client_late")

    assert wire.state == "lost"


# Faults of the backend.


@pytest.mark.parametrize(
    "said",
    [
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 9000,
        b"HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n",
    ],
)
def test_a_malformed_response_is_502_and_its_reason_is_for_the_log(said):
    wire = Wire().client(GET).backend(said)
    event, body, _ = response_seen_by_h11(wire.to_client)

    assert event.status_code == 502
    assert body == b"502 Bad Gateway\n"
    assert "malformed" in wire.records[0].fault
    assert (wire.connected, wire.state) == (False, "over")


@pytest.mark.parametrize(
    "said",
    [
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("fault", ["", "reset"])
def test_a_truncated_response_never_looks_whole(said, fault):
    wire = Wire().client(GET).backend(said).backend_ends(fault)

    assert wire.state == "lost"
    assert not wire.to_client.endswith(b"0\r\n\r\n")
    assert wire.records[0].fault


def test_a_body_until_close_that_ends_in_a_reset_never_looks_whole():
    wire = Wire().client(GET).backend(b"HTTP/1.1 200 OK\r\n\r\nhalf").backend_ends("reset")

    assert wire.state == "lost"


def test_framing_that_breaks_in_the_middle_of_a_response_cuts_it():
    wire = (
        Wire()
        .client(GET)
        .backend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        .backend(b"x\r\n")
    )

    assert wire.state == "lost"
    assert wire.to_client.endswith(b"2\r\nok\r\n")


@pytest.mark.parametrize("extra", [b"x", OK, b"\r\n"])
def test_what_follows_a_response_never_reaches_the_next_request(extra):
    wire = Wire().client(GET).backend(OK + extra)
    assert not wire.connected
    wire.client(GET).backend(OK)

    assert wire.dialled == 2
    assert wire.to_client.count(b"200 OK") == 2


def test_what_comes_unasked_costs_the_backend_its_connection():
    wire = Wire().client(GET).backend(OK).backend(OK)
    assert not wire.connected
    wire.client(GET).backend(OK)

    assert (wire.dialled, wire.to_client.count(b"200 OK")) == (2, 2)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"])
def test_a_repeatable_request_that_meets_a_closing_connection_is_sent_once_more(method):
    again = method + b" /2 HTTP/1.1\r\nHost: x\r\n\r\n"
    wire = Wire().client(GET).backend(OK).client(again)
    wire.backend_ends("reset")

    assert wire.dialled == 2
    assert wire.to_backend.count(b"/2 HTTP/1.1") == 2
    wire.backend_ends()
    assert wire.dialled == 2, "once, and no more"
    assert wire.statuses == [200, 502]


@pytest.mark.parametrize(
    ("first", "second"),
    [(GET, POST + b"hello"), (GET, b"POST /2 HTTP/1.1\r\nHost: x\r\n\r\n"), (GET, UPGRADE), (None, GET)],
    ids=["with a body", "POST", "upgrade", "on a new connection"],
)
def test_no_other_request_is_repeated(first, second):
    wire = Wire()
    if first:
        wire.client(first).backend(OK)
    wire.client(second).backend_ends()

    assert wire.dialled == 1
    assert wire.statuses[-1] == 502


def test_a_request_is_not_repeated_once_part_of_an_answer_came():
    wire = Wire().client(GET).backend(OK).client(GET).backend(b"HTTP/1.1 2").backend_ends()

    assert wire.dialled == 1
    assert wire.statuses == [200, 502]


def test_a_backend_that_closes_while_idle_is_dialled_anew_for_any_method():
    wire = Wire().client(GET).backend(OK).backend_ends()
    wire.client(POST + b"hello").backend(OK)

    assert (wire.dialled, wire.statuses) == (2, [200, 200])


@pytest.mark.parametrize("status", [502, 504])
def test_a_backend_that_fails_is_told_to_the_client_in_short(status):
    wire = Wire().client(GET).tell("backend_failed", status, "no such backend")
    event, body, _ = response_seen_by_h11(wire.to_client)

    assert event.status_code == status
    assert b"no such backend" not in body
    assert wire.records[0].fault == "no such backend"


def test_the_answer_to_head_has_no_body_even_if_it_is_ours():
    wire = Wire().client(b"HEAD" + GET[3:]).tell("backend_failed", 502, "away")

    assert response_seen_by_h11(wire.to_client, "HEAD")[1:] == (b"", b"")
    assert wire.records[0].sent == 0


# Draining.


CLOSE_AFTER_OK = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def test_a_drain_finishes_the_request_under_way_and_says_close():
    wire = Wire().client(GET + GET).tell("drain").backend(OK)

    assert b"Connection: close" in wire.to_client
    assert wire.statuses == [200]
    assert wire.state == "over"


@pytest.mark.parametrize("before", [b"", OK])
def test_a_drain_answers_one_more_request_of_a_client_that_waits(before):
    wire = Wire()
    if before:
        wire.client(GET).backend(OK)
    wire.tell("drain")
    assert wire.state == "open"
    assert wire.flow.idle
    wire.client(GET).backend(OK)

    assert wire.to_client == before + CLOSE_AFTER_OK
    assert wire.state == "over"


def test_a_drain_closes_a_client_that_asks_nothing_more():
    assert Wire().tell("drain").tell("client_late").state == "over"


@pytest.mark.parametrize("sent_ahead", [True, False])
def test_a_client_who_was_not_told_of_a_drain_in_one_response_is_told_in_the_next(sent_ahead):
    wire = Wire().client(GET + GET if sent_ahead else GET).backend(OK[:-1]).tell("drain").backend(OK[-1:])
    assert wire.to_client == OK
    assert wire.state == "open"
    if not sent_ahead:
        wire.client(GET)
    wire.backend(OK)

    assert wire.to_client == OK + CLOSE_AFTER_OK
    assert wire.state == "over"


# Any bytes, split anywhere.

TOKENS = st.sampled_from(
    [GET, POST, CHUNKED_POST, UPGRADE, OK, b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n", b"\r\n", b"HEAD" + GET[3:],
     b"POST / HTTP/1.0\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", b"x", b"HTTP/1.1 204 x\r\n\r\n",
     b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", SWITCH, b"\x00"]
)  # fmt: skip
SPEECH = st.one_of(st.binary(max_size=30), st.lists(TOKENS, max_size=5).map(b"".join))


@given(st.lists(st.tuples(st.sampled_from("cbe"), SPEECH), max_size=10))
def test_any_conversation_ends_in_answers_or_a_cut_never_in_an_exception(turns):
    wire = Wire()
    for who, what in turns:
        if wire.state != "open":
            break
        if who == "c":
            wire.client(what)
        elif wire.connected:
            wire.backend(what) if who == "b" and what else wire.backend_ends("" if what else "reset")
    wire.tell("client_lost", "the end")

    assert wire.state in ("lost", "over")
    assert all(record.status for record in wire.records)


@given(st.lists(TOKENS, max_size=6).map(b"".join), st.data())
def test_a_client_is_understood_the_same_however_its_bytes_are_split(sent, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [sent[a:b] for a, b in itertools.pairwise([0, *cuts, len(sent)])]

    assert conversation(pieces) == conversation([sent])


def conversation(pieces):
    """What a backend that answers each request at once is asked, and what becomes of the client."""
    wire = Wire()
    for piece in pieces:
        if piece and wire.state == "open":
            wire.client(piece)
    answered = 0
    while wire.state == "open" and wire.flow.waiting == Waiting.RESPONSE:
        wire.backend(b"HTTP/1.1 204 x\r\n\r\n")
        answered += 1
    if wire.statuses[-1:] == [400]:
        return wire.statuses, answered  # how much of its head and body went on before the fault depends on the split
    return wire.statuses, answered, wire.to_backend, wire.state


def test_a_body_that_trickles_is_slow_however_often_a_new_one_begins():
    """Requests that follow each other without a pause are one stretch of time."""
    wire = Wire()
    flow = wire.flow
    wire.client(POST + b"12")
    for turn in range(5):
        wire.now += 10
        wire.client(b"345" + POST + b"12").backend(OK)
        age, pace = flow.pace(wire.now)

        assert age == 10 * (turn + 1)
        assert pace < 2
    wire.client(b"345").backend(OK)
    wire.now += 10
    wire.client(POST)

    assert flow.pace(wire.now)[0] == 0, "after a pause, a new one"


SMUGGLED = b"Client-Cert: :evil:\r\nX_Forwarded_Client_Cert: evil\r\nX-Forwarded-For: 6.6.6.6\r\n"


@pytest.mark.parametrize("trusted", [True, False])
def test_each_request_says_who_calls(trusted):
    fields = b"Client-Cert: :AAAA:\r\nX-Forwarded-Client-Cert: Hash=00\r\n"
    wire = Wire(trusted=trusted, identity=fields)
    for _ in range(3):
        wire.client(GET[:-2] + SMUGGLED + b"\r\n").backend(OK)

    assert wire.to_backend.count(fields) == 3
    assert wire.to_backend.lower().count(b"\nclient-cert: ") == 3
    assert wire.to_backend.count(b"X-Forwarded-Client-Cert: ") == 3
    assert b"evil" not in wire.to_backend
    assert (b"6.6.6.6" in wire.to_backend) is trusted


@pytest.mark.parametrize("request_", [GET, POST + b"hello", CHUNKED_POST, UPGRADE, GET * 2])
def test_who_is_denied_is_answered_and_the_backend_hears_nothing(request_):
    wire = Wire(denied="api is not allowed to call")
    wire.client(request_)

    assert wire.to_client.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert wire.to_client.endswith(b"\r\n\r\n403 Forbidden: api is not allowed to call\n")
    assert wire.flow.over
    assert (wire.to_backend, wire.dialled) == (b"", 0)
    assert [(each.status, each.fault) for each in wire.records] == [(403, "api is not allowed to call")]


@given(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
def test_whatever_a_denied_client_sends_nothing_passes(pieces, begun):
    wire = Wire(denied="no")
    for piece in [GET[:-2], *pieces] if begun else pieces:
        if not (wire.flow.over or wire.flow.lost):
            wire.client(piece)
    if not (wire.flow.over or wire.flow.lost):
        wire.tell("client_ended")

    assert (wire.to_backend, wire.dialled) == (b"", 0)
    assert wire.to_client[9:12] in (b"", b"403", b"400", b"431", b"501", b"505")


def test_a_denied_client_that_is_slow_is_answered_408_and_one_that_is_silent_is_closed():
    wire = Wire(denied="no")
    wire.client(b"GET").tell("client_late")
    assert wire.to_client.startswith(b"HTTP/1.1 408 ")
    wire = Wire(denied="no")
    wire.tell("client_late")
    assert (wire.to_client, wire.flow.over) == (b"", True)
