"""The chunked coding: what is passed on is canonical, and what is not exactly right is refused."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sslterm.protocol.chunked import ChunkedBody
from sslterm.protocol.fields import ProtocolError

LIMIT = 4096


def read(pieces, *, plain=False, limit=LIMIT):
    """What is forwarded of a body that comes in these pieces, how many bytes of it were used, and the reader."""
    body = ChunkedBody(limit, plain=plain)
    forwarded, used = b"", 0
    for piece in pieces:
        while piece and not body.done:
            out, count = body.feed(memoryview(piece))
            forwarded += out
            used += count
            piece = piece[count:]
    return forwarded, used, body


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


GOOD = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    "two chunks": (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", b""),
    "no content": (b"0\r\n\r\n", b"", b""),
    "leading zeros": (b"0005\r\nhello\r\n00000\r\n\r\n", b"hello", b""),
    "capitals": (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
    "an extension": (b'5;name="a;b"\r\nhello\r\n0;x\r\n\r\n', b"hello", b""),
    "space after the size": (b"5  \r\nhello\r\n0 ;x\r\n\r\n", b"hello", b""),
    "a trailer": (b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello", b"X-Sum: 1\r\n"),
    "a dropped trailer": (b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nX-Sum: 1\r\n\r\n", b"hello", b"X-Sum: 1\r\n"),
    "CRLF in the content": (b"6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", b"\r\n0\r\n\r", b""),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_what_is_right_passes_in_canonical_form(name, split):
    wire, content, trailers = GOOD[name]
    forwarded, used, body = read([*split(wire), b"GET / HTTP/1.1\r\n"])

    assert body.done
    assert used == len(wire), "not a byte of what follows"
    assert body.received == len(content)
    assert forwarded.endswith(b"0\r\n" + trailers + b"\r\n")
    assert content_of(forwarded) == content
    assert b";" not in forwarded[: len(forwarded) - len(trailers) - 2].replace(content, b"")
    assert read(split(wire), plain=True)[0] == content


def content_of(chunked):
    """A second opinion."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)
    content = b""
    while not isinstance(event := reader.next_event(), h11.EndOfMessage):
        assert event not in (h11.NEED_DATA, h11.PAUSED)
        if isinstance(event, h11.Data):
            content += event.data
    return content


BAD = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "an underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "no hexadecimal number": b"g\r\nhello\r\n0\r\n\r\n",
    "a size beyond 60 bits": b"1000000000000000\r\n",
    "a bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "text behind the size": b"5 hello\r\nhello\r\n0\r\n\r\n",
    "a long extension": b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n",
    "content longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "no end after the content": b"5\r\nhello0\r\n\r\n",
    "a bare LF after the content": b"5\r\nhello\n0\r\n\r\n",
    "two ends after the content": b"5\r\nhello\r\n\r\n0\r\n\r\n",
    "a trailer without a colon": b"0\r\nnothing\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a bare LF in a trailer": b"0\r\nA: b\nC: d\r\n\r\n",
    "a bare CR in a trailer": b"0\r\nA: b\rC: d\r\n\r\n",
    "NUL in a trailer": b"0\r\nA: \x00\r\n\r\n",
    "a bare LF at the end": b"0\r\n\n",
    "endless extensions": b"1;" + b"a" * 200 + b"\r\nx\r\n",
    "endless trailers": b"0\r\n" + b"A: b\r\n" * (LIMIT // 6 + 1) + b"\r\n",
    "a long trailer": b"0\r\nA: " + b"b" * LIMIT + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("split", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
def test_what_is_not_exactly_right_is_refused(name, split):
    wire = BAD[name] * (100 if name == "endless extensions" else 1)
    with pytest.raises(ProtocolError) as refusal:
        read(split(wire))

    assert refusal.value.status in (400, 431)


def outcome(pieces):
    """The content up to the end or to the first fault, and which of the two it was."""
    body = ChunkedBody(LIMIT, plain=True)
    content = b""
    try:
        for piece in pieces:
            at = 0
            while at < len(piece) and not body.done:
                out, count = body.feed(memoryview(piece)[at:])
                content += out
                at += count
    except ProtocolError as error:
        return "refused", error.status
    return "done" if body.done else "more", content


PIECES = st.sampled_from(
    [b"0", b"1", b"5", b"a", b"F", b";", b"x", b"=", b'"', b" ", b"\t", b"\r\n", b"\r", b"\n", b"hello", b"A: b", b":",
     b"\x00", b"\xff", b"0\r\n\r\n", b"5\r\nhello\r\n"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=20).map(b"".join)), st.data())
@example(b"0\r\n\r\n", None)
def test_any_bytes_split_anywhere_give_the_same_value_or_error(wire, data):
    whole = outcome([wire])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5))) if data else []
    edges = [0, *cuts, len(wire)]
    split = outcome([wire[a:b] for a, b in itertools.pairwise(edges)])

    assert split == whole
    assert outcome(bytewise(wire)) == whole


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6))
def test_any_content_survives(chunks):
    wire = b"".join(b"%X;e\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"

    assert content_of(read([wire])[0]) == b"".join(chunks)


def test_sizes_are_written_in_one_form_however_they_came():
    out, used = ChunkedBody(1000).feed(memoryview(b"01\r\na\r\n1\r\nb\r\n00A\r\n0123456789\r\n2\r\ncd\r\n0\r\n\r\n"))

    assert out == b"1\r\na\r\n1\r\nb\r\na\r\n0123456789\r\n2\r\ncd\r\n0\r\n\r\n"
    assert used == 42


@pytest.mark.parametrize(
    "line", [b"Authorization: x", b"cookie: a=b", b"X-Forwarded-For: 1.2.3.4", b"Content-Length: 1"]
)
def test_trailers_cannot_say_what_only_heads_may(line):
    out, _ = ChunkedBody(1000).feed(memoryview(b"0\r\n" + line + b"\r\nX-Sum: 1\r\n\r\n"))

    assert out == b"0\r\nX-Sum: 1\r\n\r\n"
