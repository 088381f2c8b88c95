"""What two readers could understand differently is refused and closed, and the backend never hears of it."""

from __future__ import annotations

import pytest

from lab.backend import backend, echo_requests
from lab.client import Client, access_lines, get, relay

AMBIGUOUS = {
    "no HTTP": (400, b"hello\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "length and coding": (400, get(b"/", b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    "two lengths": (400, get(b"/", b"Content-Length: 0", b"Content-Length: 44")),
    "a list of lengths": (400, get(b"/", b"Content-Length: 0, 0")),
    "a sign": (400, get(b"/", b"Content-Length: +0")),
    "another coding": (501, get(b"/", b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
    "chunked twice": (501, get(b"/", b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    "xchunked": (501, get(b"/", b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
    "a folded line": (400, get(b"/", b"A: b", b" Content-Length: 44")),
    "a space before the colon": (400, get(b"/", b"Content-Length : 44")),
    "a bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "a bare CR": (400, get(b"/", b"A: b\rContent-Length: 44")),
    "NUL": (400, get(b"/", b"A: \x00")),
    "an unknown version": (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    "the preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "CONNECT": (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    "an unknown expectation": (417, get(b"/", b"Expect: the unexpected")),
    "a bad chunk size": (400, get(b"/", b"Transfer-Encoding: chunked") + b"0x1\r\nx\r\n0\r\n\r\n"),
    "a bad end of a chunk": (400, get(b"/", b"Transfer-Encoding: chunked") + b"1\r\nxy\r\n0\r\n\r\n"),
    "a bad trailer": (400, get(b"/", b"Transfer-Encoding: chunked") + b"0\r\nA : b\r\n\r\n"),
}
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def running():
    with backend(echo_requests) as server, relay(server) as each:
        yield each
        assert server.accepted == 0, "none of all this went on"


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_it_is_refused_and_what_it_hides_is_not_read(running, name):
    status, sent = AMBIGUOUS[name]
    seen = len(running.access)
    with Client(running.port) as client:
        got, head, body = client.ask(sent + HIDDEN)

        assert got == status
        assert body.startswith(b"%d " % status)
        assert b"Connection: close" in head
        assert client.rest() == b"", "one answer and no more"
    line = access_lines(running, seen + 1)[seen]
    assert f"| {status} |" in line
    assert "/hidden" not in line


def test_a_fault_in_a_request_sent_ahead_is_answered_in_its_turn():
    with backend(echo_requests) as server, relay(server) as own, Client(own.port) as client:
        client.send(get(b"/1") + b"nonsense\r\n\r\n" + HIDDEN)

        assert client.answer()[2] == b"GET /1 "
        assert client.answer()[0] == 400
        assert client.rest() == b""


def test_a_fault_in_a_body_under_way_never_looks_like_its_end():
    def answer(peer):
        server.seen.put(peer.head())
        server.seen.put(peer.rest())

    with backend(answer) as server, relay(server) as own:
        with Client(own.port) as client:
            client.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nhello\r\n")
            assert server.sees().startswith(b"POST /")
            client.send(b"zz\r\n0\r\n\r\n" + HIDDEN)
            assert client.answer()[0] == 400
        assert not server.sees().endswith(b"0\r\n\r\n")
