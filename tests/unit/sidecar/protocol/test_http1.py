"""
Heads: what is understood, what is forwarded, and all that is refused because two readers could differ on it.

Long, because it is mostly tables of heads: a rule of the RFCs is a few lines in one of them.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sslterm.protocol import http1
from sslterm.protocol.fields import ProtocolError
from sslterm.protocol.http1 import CHUNKED, UNTIL_CLOSE, HeadReader, read_request, read_response

LIMIT = 1024


def head(*lines):
    return b"".join(line + b"\r\n" for line in lines)


def lines_of(whole):
    return whole.split(b"\r\n")[:-1]


def request(*lines, first=b"GET / HTTP/1.1", host=b"Host: x", trusted=False):
    read = read_request(head(first, *([host] if host else []), *lines), trusted=trusted)
    forwarded = read.line + read.meaning.named + read.lines + read.meaning.framed
    return SimpleNamespace(**(read.meaning._asdict() | read._asdict() | {"lines": lines_of(forwarded)}))


def refusal(read, *args, **kwargs):
    with pytest.raises(ProtocolError) as refused:
        read(*args, **kwargs)
    return refused.value.status


# Where a head ends.


def collect(pieces, limit=LIMIT):
    reader = HeadReader(limit)
    for number, piece in enumerate(pieces):
        try:
            whole = reader.feed(piece)
        except ProtocolError as error:
            return "refused", error.status
        if whole is not None:
            return whole[0], whole[1] + b"".join(pieces[number + 1 :])
    return "more", reader.started


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize(
    ("wire", "result"),
    [
        (b"A\r\nB: c\r\n\r\nrest", (b"A\r\nB: c\r\n", b"rest")),
        (b"A\r\n\r\n", (b"A\r\n", b"")),
        (b"\r\nA\r\n\r\n\r\n", (b"A\r\n", b"\r\n")),
        (b"A\r\nB: c\r\n", ("more", True)),
        (b"", ("more", False)),
        (b"\r\n", ("more", False)),
        (b"\r\n\r\nA\r\n\r\n", ("refused", 400)),
        (b"\r\n\r\n", ("refused", 400)),
        (b"\nA\r\n\r\n", ("refused", 400)),
        (b"\rA\r\n\r\n", ("refused", 400)),
        (b"\r\n\nA\r\n\r\n", ("refused", 400)),
        (b"A\nB: c\r\n", ("refused", 400)),
        (b"A" * (LIMIT - 2) + b"\r\n\r\n", (b"A" * (LIMIT - 2) + b"\r\n", b"")),
        (b"A" * LIMIT + b"\r\n\r\n", (b"A" * LIMIT + b"\r\n", b"")),
        (b"A" * (LIMIT + 1) + b"\r\n\r\n", ("refused", 431)),
        (b"A" * (LIMIT + 4), ("refused", 431)),
    ],
)
def test_a_head_is_found_however_it_is_split(wire, result, split):
    assert collect(split(wire)) == result


PIECES = st.sampled_from([b"\r\n", b"\r", b"\n", b"GET / HTTP/1.1", b"Host: x", b" ", b"\x00", b"\r\n\r\n", b"a" * 600])


@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(st.integers(0, 99), max_size=4))
@example(b"\r\n\r\nGET", [2])
def test_the_same_bytes_split_anywhere_are_the_same_head_or_error(wire, cuts):
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    pieces = [wire[a:b] for a, b in itertools.pairwise(edges)]
    whole, split = collect([wire]), collect(pieces)

    if whole[0] == "refused" or split[0] == "refused":
        # A fault in the first part of a head is told before the rest of it is there.
        assert read_through([wire]) == read_through(pieces) == "refused"
    else:
        assert split == whole


def read_through(pieces):
    """As a relay does: the head is found, then read."""
    found, _ = collect(pieces)
    if isinstance(found, bytes):
        try:
            read_request(found, trusted=False)
        except ProtocolError:
            return "refused"
    return found


# Requests that could be understood in two ways.

SMUGGLING = {
    "length and coding": (400, b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "coding and length": (400, b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "length and empty coding": (400, b"Content-Length: 5", b"Transfer-Encoding:"),
    "two lengths": (400, b"Content-Length: 5", b"Content-Length: 6"),
    "the same length twice": (400, b"Content-Length: 5", b"Content-Length: 5"),
    "a list of lengths": (400, b"Content-Length: 5, 5"),
    "a sign": (400, b"Content-Length: +5"),
    "a negative length": (400, b"Content-Length: -5"),
    "a hexadecimal length": (400, b"Content-Length: 0x5"),
    "an underscore": (400, b"Content-Length: 1_0"),
    "a space inside": (400, b"Content-Length: 1 0"),
    "an empty length": (400, b"Content-Length:"),
    "a fraction": (400, b"Content-Length: 5.0"),
    "digits of another script": (400, b"Content-Length: \xd9\xa5"),
    "a length of 19 digits": (400, b"Content-Length: 1000000000000000000"),
    "another coding": (501, b"Transfer-Encoding: gzip"),
    "chunked last of two": (501, b"Transfer-Encoding: gzip, chunked"),
    "chunked first of two": (501, b"Transfer-Encoding: chunked, gzip"),
    "chunked twice": (501, b"Transfer-Encoding: chunked, chunked"),
    "chunked in two lines": (501, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "xchunked": (501, b"Transfer-Encoding: xchunked"),
    "chunked with a parameter": (501, b"Transfer-Encoding: chunked;a=b"),
    "chunked in quotes": (501, b'Transfer-Encoding: "chunked"'),
    "identity": (501, b"Transfer-Encoding: identity"),
    "an empty coding": (501, b"Transfer-Encoding:"),
    "a comma": (501, b"Transfer-Encoding: ,chunked"),
    "a vertical tab": (400, b"Transfer-Encoding: \x0bchunked"),
    "a no-break space": (501, b"Transfer-Encoding: \xa0chunked"),
    "a space before the colon": (400, b"Transfer-Encoding : chunked"),
    "a tab before the colon": (400, b"Content-Length\t: 5"),
    "a folded line": (400, b"X-A: b", b" Content-Length: 5"),
    "a folded value": (400, b"Transfer-Encoding:", b" chunked"),
    "no colon": (400, b"Content-Length 5"),
    "no name": (400, b": 5"),
    "a bare LF": (400, b"X-A: b\nContent-Length: 5"),
    "a bare CR": (400, b"X-A: b\rContent-Length: 5"),
    "NUL": (400, b"X-A: b\x00c"),
    "NUL in a name": (400, b"X\x00-A: b"),
    "another control character": (400, b"X-A: \x1b[31m"),
    "DEL": (400, b"X-A: \x7f"),
    "two hosts": (400, b"Host: y"),
    "another expectation": (417, b"Expect: 200-ok"),
    "two expectations": (417, b"Expect: 100-continue", b"Expect: 100-continue"),
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_two_readers_could_differ_on_is_refused(name):
    status, *lines = SMUGGLING[name]

    assert refusal(request, *lines, first=b"POST / HTTP/1.1") == status


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.11", 400),
        (b"GET / HTTP/11", 400),
        (b"G@T / HTTP/1.1", 400),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/2.0", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET index.html HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET ftp://x/ HTTP/1.1", 400),
        (b"GET http://user@x/ HTTP/1.1", 400),
        (b"GET http:///path HTTP/1.1", 400),
        (b"GET http://:80/path HTTP/1.1", 400),
        (b"GET http://a b/ HTTP/1.1", 400),
        (b"GET http://x#y HTTP/1.1", 400),
        (b"CONNECT x:443 HTTP/1.1", 501),
        (b"CONNECT /x HTTP/1.1", 501),
        (b"CONNECT http://x/ HTTP/1.1", 501),
        (b"A" * 33 + b" / HTTP/1.1", 400),
    ],
)
def test_a_request_line_has_one_form(first, status):
    assert refusal(request, first=first) == status


@pytest.mark.parametrize(
    "host",
    [b"Host: a b", b"Host: a/b", b"Host: u@x", b"Host: x:y", b"Host: x:123456", b"Host: [::1", b"Host: a?b", b""],
)
def test_a_host_has_one_form(host):
    assert refusal(request, host=host) == 400


# What is forwarded.


@pytest.mark.parametrize(
    ("first", "host", "line", "forwarded"),
    [
        (b"GET /a?b HTTP/1.1", b"Host: x", b"GET /a?b HTTP/1.1", b"Host: x"),
        (b"GET http://y/a?b HTTP/1.1", b"Host: x", b"GET /a?b HTTP/1.1", b"Host: y"),
        (b"GET HTTPS://y:1 HTTP/1.1", b"Host: x", b"GET / HTTP/1.1", b"Host: y:1"),
        (b"GET http://y?b HTTP/1.1", b"Host: x", b"GET /?b HTTP/1.1", b"Host: y"),
        (b"OPTIONS * HTTP/1.1", b"Host: x", b"OPTIONS * HTTP/1.1", b"Host: x"),
        (b"OPTIONS http://y HTTP/1.1", b"Host: x", b"OPTIONS * HTTP/1.1", b"Host: y"),
        (b"OPTIONS http://y/ HTTP/1.1", b"Host: x", b"OPTIONS / HTTP/1.1", b"Host: y"),
        (b"GET / HTTP/1.1", b"Host: [::1]:8443", b"GET / HTTP/1.1", b"Host: [::1]:8443"),
        (b"GET /\xc3\xa9 HTTP/1.1", b"Host:", b"GET /\xc3\xa9 HTTP/1.1", b"Host: "),
        (b"GET //y/a HTTP/1.1", b"Host: x", b"GET //y/a HTTP/1.1", b"Host: x"),
    ],
)
def test_the_target_goes_on_in_origin_form_with_one_host(first, host, line, forwarded):
    read = request(first=first, host=host)

    assert read.lines[:2] == [line, forwarded]
    assert sum(each.lower().startswith(b"host:") for each in read.lines) == 1
    assert read.target == first.split()[1], "the log shows what the client wrote"


def test_http_1_0_may_come_without_a_host():
    read = request(first=b"GET / HTTP/1.0", host=None)

    assert read.lines == [b"GET / HTTP/1.0"]
    assert not read.persists


@pytest.mark.parametrize(
    ("minor", "connection", "persists"),
    [
        (1, [], True),
        (1, [b"keep-alive"], True),
        (1, [b"close"], False),
        (1, [b"x, CLOSE"], False),
        (1, [b"x", b"close"], False),
        (0, [], False),
        (0, [b"Keep-Alive"], True),
        (0, [b"keep-alive, close"], False),
        (0, [b"close", b"keep-alive"], False),
    ],
)
def test_who_says_close_does_not_persist(minor, connection, persists):
    lines = [b"Connection: " + each for each in connection]

    assert request(*lines, first=b"GET / HTTP/1.%d" % minor).persists is persists
    assert read_response(head(b"HTTP/1.%d 204 x" % minor, *lines), b"GET").persists is persists


HOP_BY_HOP = [
    b"Connection: close, X-Secret",
    b"Keep-Alive: 5",
    b"Proxy-Connection: close",
    b"TE: gzip",
    b"Upgrade: websocket",
    b"HTTP2-Settings: x",
    b"X-Secret: 1",
    b"x-secret: 2",
]


def test_what_concerns_one_connection_is_not_passed_on():
    assert request(*HOP_BY_HOP, b"X-Other: 3").lines == [b"GET / HTTP/1.1", b"Host: x", b"X-Other: 3"]
    response = read_response(head(b"HTTP/1.1 200 OK", *HOP_BY_HOP, b"X-Other: 3", b"Content-Length: 0"), b"GET")
    assert lines_of(response.head) == [b"HTTP/1.1 200 OK", b"X-Other: 3", b"Content-Length: 0"]


@pytest.mark.parametrize(
    "nominated", [b"host", b"content-length", b"Transfer-Encoding", b"X-Forwarded-For", b"X-Real-Ip"]
)
def test_nominating_a_field_that_matters_does_not_remove_it(nominated):
    read = request(b"Content-Length: 5", b"Connection: " + nominated, first=b"POST / HTTP/1.1")

    assert b"Host: x" in read.lines
    assert b"Content-Length: 5" in read.lines


CLAIMS = [
    b"X-Forwarded-For: 6.6.6.6",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Host: evil",
    b"X-Forwarded-Port: 1",
    b"X-Real-Ip: 6.6.6.6",
    b"Forwarded: for=6.6.6.6",
]
IDENTITIES = [
    b"Client-Cert: :x:",
    b"Client-Cert-Chain: :x:",
    b"X-Forwarded-Client-Cert: Hash=x",
    b"Proxy: evil:80",
    b"X_Forwarded_For: 6.6.6.6",
    b"X_Forwarded_Client_Cert: x",
    b"CLIENT_CERT: x",
]


def test_claims_are_believed_from_trusted_peers_only_and_identities_from_nobody():
    stranger = request(*CLAIMS, *IDENTITIES)
    friend = request(*CLAIMS, b"X-Forwarded-For: 7.7.7.7", *IDENTITIES, trusted=True)

    assert stranger.lines == [b"GET / HTTP/1.1", b"Host: x"]
    assert stranger.forwarded_for == b""
    assert stranger.forwarded == frozenset()
    assert friend.lines == [b"GET / HTTP/1.1", b"Host: x", *CLAIMS[1:]]
    assert friend.forwarded_for == b"6.6.6.6, 7.7.7.7"
    assert b"x-real-ip" in friend.forwarded


@pytest.mark.parametrize(
    ("host", "port"), [(b"x", b"443"), (b"x:8443", b"8443"), (b"x:", b"443"), (b"[::1]:1", b"1"), (b"", b"443")]
)
def test_the_port_is_the_one_that_the_client_used(host, port):
    assert request(host=b"Host: " + host).port == port


@pytest.mark.parametrize(
    ("lines", "first", "upgrade"),
    [
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.1", b"Upgrade: websocket"),
        ([b"Connection: keep-alive, upgrade", b"Upgrade: WebSocket"], b"GET / HTTP/1.1", b"Upgrade: WebSocket"),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"GET / HTTP/1.0", None),
        ([b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: H2C"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: websocket, h2c"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: HTTP/2.0"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: TLS/1.3"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 5"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 0"], b"GET / HTTP/1.1", b"Upgrade: x"),
    ],
)
def test_only_upgrades_that_are_no_second_http_and_come_without_a_body_go_on(lines, first, upgrade):
    read = request(*lines, first=first)
    forwarded = [line for line in read.lines if b"upgrade" in line.lower() or b"http2" in line.lower()]

    assert read.upgrade is bool(upgrade)
    assert forwarded == ([upgrade] if upgrade else [])


def test_a_client_that_takes_trailers_is_told_of_with_its_connection_option():
    assert request(b"TE: gzip, trailers").trailers
    assert not request(b"TE: trailers", first=b"GET / HTTP/1.0").trailers


def test_an_expectation_of_http_1_0_is_ignored():
    assert request(b"Expect: 100-continue", first=b"PUT / HTTP/1.0").lines[2:] == []
    assert request(b"Expect: 100-Continue").lines[2:] == [b"Expect: 100-continue"]


# Responses.


@pytest.mark.parametrize(
    ("method", "first", "lines", "length"),
    [
        (b"GET", b"HTTP/1.1 200 OK", [b"Content-Length: 5"], 5),
        (b"GET", b"HTTP/1.1 200 OK", [b"Content-Length: 0"], 0),
        (b"GET", b"HTTP/1.1 200 OK", [b"Transfer-Encoding: Chunked"], CHUNKED),
        (b"GET", b"HTTP/1.1 200 OK", [], UNTIL_CLOSE),
        (b"GET", b"HTTP/1.0 200 OK", [], UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 200", [], UNTIL_CLOSE),
        (b"GET", b"HTTP/1.1 204 x", [], 0),
        (b"GET", b"HTTP/1.1 204 x", [b"Content-Length: 5"], 0),
        (b"GET", b"HTTP/1.1 204 x", [b"Transfer-Encoding: chunked"], 0),
        (b"GET", b"HTTP/1.1 304 x", [b"Content-Length: 5"], 0),
        (b"GET", b"HTTP/1.1 304 x", [b"Transfer-Encoding: chunked"], 0),
        (b"HEAD", b"HTTP/1.1 200 OK", [b"Content-Length: 5"], 0),
        (b"HEAD", b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], 0),
        (b"HEAD", b"HTTP/1.1 200 OK", [], 0),
        (b"GET", b"HTTP/1.1 100 Continue", [], 0),
        (b"GET", b"HTTP/1.1 103 Early Hints", [b"Link: x"], 0),
    ],
)
def test_where_a_response_ends(method, first, lines, length):
    assert read_response(head(first, *lines), method).length == length


@pytest.mark.parametrize(
    ("first", "lines", "kept"),
    [
        (b"HTTP/1.1 204 x", [b"Content-Length: 5"], []),
        (b"HTTP/1.1 204 x", [b"Transfer-Encoding: chunked"], []),
        (b"HTTP/1.1 304 x", [b"Content-Length: 5"], [b"Content-Length: 5"]),
        (b"HTTP/1.1 304 x", [b"Transfer-Encoding: chunked"], []),
        (b"HTTP/1.1 103 x", [b"Content-Length: 5"], []),
        (b"HTTP/1.1 200 x", [b"Upgrade: h2,h2c", b"Connection: Upgrade"], []),
        (b"HTTP/1.1 426 x", [b"Upgrade: foo", b"Connection: Upgrade"], [b"Upgrade: foo"]),
        (b"HTTP/1.1 101 x", [b"Upgrade: foo", b"Connection: Upgrade"], [b"Upgrade: foo"]),
        (b"HTTP/1.1 200 x", [b"Set-Cookie: a", b"Set-Cookie: b"], [b"Set-Cookie: a", b"Set-Cookie: b"]),
        (b"HTTP/1.1 200 x", [b"X-Forwarded-For: 1.2.3.4"], [b"X-Forwarded-For: 1.2.3.4"]),
    ],
)
def test_a_response_goes_on_without_what_its_status_forbids(first, lines, kept):
    assert lines_of(read_response(head(first, *lines), b"GET").head)[1:] == kept


@pytest.mark.parametrize(
    "lines",
    [
        (b"HTTP/1.1 OK",),
        (b"HTTP/2 200 OK",),
        (b"HTTP/1.1 099 OK",),
        (b"HTTP/1.1 20 OK",),
        (b"HTTP/1.1 2000 OK",),
        (b"HTTP/1.1  200 OK",),
        (b"ICY 200 OK",),
        (b"HTTP/1.1 200 O\x00K",),
        (b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked"),
        *(
            (b"HTTP/1.1 200 OK", *lines)
            for status, *lines in SMUGGLING.values()
            if status != 417 and lines != [b"Host: y"]
        ),
    ],
)
def test_what_two_readers_could_differ_on_is_refused_from_a_backend_too(lines):
    assert refusal(read_response, head(*lines), b"GET")


# Any bytes at all; and a second opinion.

LINES = st.sampled_from(
    [b"Host: x", b"Content-Length: 5", b"Content-Length:  05\t", b"Transfer-Encoding: chunked", b"Connection: close",
     b"Connection: keep-alive, X-A", b"X-A: b", b"x-a:c", b"Expect: 100-continue", b"TE: trailers",
     b"Upgrade: websocket", b"Connection: upgrade", b"X-B: \xff\xfe", b"X-C:", b"X-D: , ;=\"'", b"Cookie: a=b; c=d",
     b"X_Y: z"]
)  # fmt: skip
FIRSTS = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"HEAD http://y/z HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0",
     b"DELETE /%00 HTTP/1.1", b"M-SEARCH /x HTTP/1.1"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=200), st.lists(st.one_of(LINES, FIRSTS, st.binary(max_size=9))).map(b"\r\n".join)))
def test_any_head_is_read_or_refused(data):
    statuses = {
        refusal_or_none(lambda: read_request(data, trusted=False)),
        refusal_or_none(lambda: read_response(data, b"GET")),
    }

    assert statuses <= {None, 400, 417, 501, 502, 505}


def refusal_or_none(read):
    try:
        read()
    except ProtocolError as error:
        return error.status
    return None


@given(FIRSTS, st.lists(LINES, max_size=6))
def test_h11_reads_what_is_forwarded_as_the_same_request(first, lines):
    try:
        read = read_request(head(first, *lines), trusted=False)
    except ProtocolError:
        return
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(b"".join((read.line, read.meaning.named, read.lines, read.meaning.framed, b"\r\n")))
    event = peer.next_event()

    assert type(event) is h11.Request
    assert event.method == read.method == first.split()[0]
    assert event.target == (b"/z" if b"http:" in first else first.split()[1])
    assert event.http_version == b"1.%d" % read.minor
    received = dict(event.headers)
    assert received.get(b"host", b"") == (b"y" if b"http:" in first else read.meaning.host)
    assert (received.get(b"transfer-encoding") == b"chunked") == (read.meaning.length == CHUNKED)
    assert int(received.get(b"content-length", 0)) == max(read.meaning.length, 0)
    nominated = any(b"X-A" in line for line in lines if line.startswith(b"Connection"))
    for name in (b"x-b", b"x-c", b"x-d", b"cookie", *(() if nominated else (b"x-a",))):
        sent = [line.partition(b":")[2].strip() for line in lines if line.lower().startswith(name + b":")]
        assert [value for each, value in event.headers if each == name] == sent


# What is remembered of heads.


def test_what_is_remembered_is_bounded_and_holds_no_secrets():
    memories = (http1._LINES, http1._MEANINGS, http1._OUTLINES)
    for number in range(2000):
        request(
            b"X-%d: y" % number, b"Cookie: secret=%d" % number, b"Authorization: secret", host=b"Host: h%d" % number
        )
        read_response(head(b"HTTP/1.1 200 OK", b"Content-Length: %d" % number, b"Set-Cookie: secret"), b"GET")
    request(b"X-Long: " + b"y" * 900)

    assert all(0 < len(memory) <= http1._MOST_REMEMBERED for memory in memories)
    assert not any(b"secret" in line or len(line) > http1._LONGEST_REMEMBERED for memory in memories for line in memory)


HEADS = st.lists(
    st.sampled_from([
        b"Host: x", b"host: y:8443", b"Content-Length: 5", b"Content-Length: 05", b"Transfer-Encoding: chunked",
        b"Connection: close", b"Connection: X-Hop, keep-alive", b"X-Hop: 1", b"X-Forwarded-For: 192.0.2.9",
        b"X-Forwarded-Proto: http", b"X-Real-Ip: 192.0.2.9", b"TE: trailers", b"Expect: 100-continue", b"A: b",
        b"A : b", b"A: b\x00", b"Upgrade: websocket", b"Connection: upgrade", b"Cookie: a=b",
    ]),
    max_size=6,
)  # fmt: skip


@given(HEADS, st.booleans(), st.sampled_from([b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://z/ HTTP/1.1"]))
def test_a_head_means_the_same_whatever_was_read_before_it(lines, trusted, first):
    def outcome(read):
        try:
            return read()
        except ProtocolError as error:
            return error.status, str(error)

    def both():
        return (
            outcome(lambda: read_request(head(first, *lines), trusted=trusted)),
            outcome(lambda: read_response(head(b"HTTP/1.1 200 OK", *lines), b"GET")),
            outcome(lambda: read_response(head(b"HTTP/1.1 200 OK", *lines), b"HEAD")),
        )

    remembered = both()
    for memory in (http1._LINES, http1._MEANINGS, http1._OUTLINES):
        memory.clear()

    assert both() == remembered
