"""
Any messages, right or damaged, in any pieces: one outcome, and the same messages to every reader.

What is right arrives as it was sent: method, target, fields and content. What was damaged is refused, or it is still
one thing to all readers. Never another exception than the typed one.
"""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lab.exchange import REFUSALS, read_requests, read_response
from lab.readers import METHODS, requests_by_both, response_by_h11, response_by_llhttp

OURS = (b"x-forwarded-for", b"x-real-ip", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
TOKEN = st.text("abcXYZ019!#$%&'*+-.^`|~", min_size=1, max_size=12).map(str.encode)
NAME = TOKEN.map(lambda token: b"x-" + token)
VALUE = st.text('aB0 \t"(),/:;<=>?@[\\]{}é', max_size=20).map(lambda value: value.encode("latin-1").strip(b" \t"))
TARGET = st.text("aZ0/-._~%!$&'()*+,;=:@?", max_size=20).map(lambda path: b"/" + path.encode())
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=5)
SPACE = st.sampled_from([b"", b" ", b"\t", b"  "])
CONTENT = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])),
    max_size=4,
)
EXTENSION = st.sampled_from([b"", b"", b";a", b" ;a=b", b';a="b c"'])


def chunked(draw, parts):
    """The parts as chunks, as unusual as the grammar allows."""
    wire = b""
    for part in parts:
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(part)
        wire += size + draw(EXTENSION) + b"\r\n" + part + b"\r\n"
    trailers = draw(st.lists(st.sampled_from([b"X-Sum: 1\r\n", b"Content-Length: 5\r\n"]), max_size=2))
    return wire + draw(st.sampled_from([b"0", b"000", b"0;a"])) + b"\r\n" + b"".join(trailers) + b"\r\n"


@st.composite
def body(draw):
    """The framing field of a body, its bytes on the wire, and its content."""
    parts = draw(CONTENT)
    content = b"".join(parts)
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    if kind == "length":
        return [(b"content-length", b"%d" % len(content))], content, content
    if kind == "chunked":
        return [(b"transfer-encoding", b"chunked")], chunked(draw, parts), content
    return [], b"", b""


@st.composite
def lines(draw, fields):
    """Fields as lines, with the space and the capitals that are allowed."""
    out = b""
    for name, value in fields:
        out += (name.title() if draw(st.booleans()) else name) + b":" + draw(SPACE) + value + draw(SPACE) + b"\r\n"
    return out


@st.composite
def request(draw):
    """A request on the wire; its method, target, fields and content."""
    method = draw(st.sampled_from(METHODS))
    target = draw(TARGET)
    framing, wire, content = draw(body())
    fields = draw(FIELDS)
    host = [(b"host", draw(st.sampled_from([b"x", b"example.com:8443", b"[::1]"])))]
    head = draw(lines(draw(st.permutations([*host, *fields, *framing]))))
    return method + b" " + target + b" HTTP/1.1\r\n" + head + b"\r\n" + wire, (method, target), fields, content


def cut(draw, wire):
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(wire)), max_size=6))), len(wire)]
    return [wire[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(request(), min_size=1, max_size=4), st.data())
def test_what_is_right_arrives_as_it_was_sent(sent, data):
    outcome, exchange = read_requests(cut(data.draw, b"".join(wire for wire, *_ in sent)))
    seen = [message for stream in exchange.backends for message in requests_by_both(stream)]

    assert (outcome.whole, outcome.end) == (len(sent), "idle")
    assert len(seen) == len(sent)
    for message, (_, first, fields, content) in zip(seen, sent, strict=True):
        assert message.first == first
        assert message.body == content
        kept = [
            each for each in message.fields if each[0] not in (*OURS, b"host", b"content-length", b"transfer-encoding")
        ]
        assert sorted(kept) == sorted((name.lower(), value) for name, value in fields)
        assert {name for name, _ in message.trailers} <= {b"x-sum"}


DAMAGE = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"5", b"\x80", b"x", b"\r\n ", b"\x0b",
     b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
     b"Connection: upgrade\r\nUpgrade: x\r\n", b"HTTP/1.0", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"]
)  # fmt: skip


def damaged(draw, wire):
    """Some bytes lost, added, or there twice."""
    for _ in range(draw(st.integers(1, 3))):
        at, to = sorted((draw(st.integers(0, len(wire))), draw(st.integers(0, len(wire)))))
        kind = draw(st.sampled_from(["add", "add", "lose", "repeat", "end"]))
        if kind == "add":
            wire = wire[:at] + draw(DAMAGE) + wire[at:]
        elif kind == "lose":
            wire = wire[:at] + wire[min(to, at + 3) :]
        elif kind == "repeat":
            wire = wire[:to] + wire[at:to] + wire[to:]
        else:
            wire = wire[:to]
    return wire


@given(st.lists(request(), min_size=1, max_size=3), st.data())
def test_what_was_damaged_is_one_thing_to_all_readers_however_it_is_cut(sent, data):
    wire = damaged(data.draw, b"".join(each[0] for each in sent))
    outcome, exchange = read_requests([wire])

    assert not outcome.refused or int(outcome.end) in REFUSALS
    assert len([message for stream in exchange.backends for message in requests_by_both(stream)]) == outcome.whole
    assert read_requests(cut(data.draw, wire))[0] == outcome


@st.composite
def response(draw):
    """A response on the wire; its status and content, and whether it ends with the connection."""
    status = draw(st.sampled_from([b"200", b"404", b"500", b"206"]))
    framing, wire, content = draw(body())
    if not framing:
        wire = content = b"".join(draw(CONTENT))
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nLink: a\r\n\r\n"]))
    head = draw(lines(draw(st.permutations([*draw(FIELDS), *framing]))))
    first = b"HTTP/1.1 " + status + draw(st.sampled_from([b"", b" ", b" OK", b" \xe9"])) + b"\r\n"
    return interim + first + head + b"\r\n" + wire, status, content, not framing


@given(response(), st.data())
def test_a_response_arrives_as_it_was_sent(sent, data):
    wire, status, content, until_close = sent
    outcome, exchange = read_response(cut(data.draw, wire))
    seen = response_by_h11(exchange.to_client, ended=until_close)

    assert (outcome.whole, outcome.end) == (1, "closed" if until_close else "idle")
    assert seen is not None
    assert (seen.first[0], seen.body) == (status, content)
    if not until_close:
        assert response_by_llhttp(exchange.to_client) == seen


@given(response(), st.data())
def test_a_damaged_response_is_whole_to_all_readers_or_to_none(sent, data):
    wire = damaged(data.draw, sent[0])
    outcome, exchange = read_response([wire])
    split, _ = read_response(cut(data.draw, wire))

    assert split.whole == outcome.whole
    assert outcome.end in ("idle", "closed", "more", "502")
    if exchange.to_client:
        seen = response_by_h11(exchange.to_client, ended=outcome.end == "closed" and not exchange.flow.lost)
        assert (seen is None) == exchange.flow.lost
