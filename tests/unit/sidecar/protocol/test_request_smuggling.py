"""
Published tricks of request smuggling: a framing field that some readers see and others do not.

Any byte at any place where tools try one; whatever is not refused is the same to every reader, and hides no second
framing field behind a name that a CGI-like backend folds into the real one.
"""

from __future__ import annotations

import re

import pytest

from lab.exchange import read_requests
from lab.readers import requests_by_both

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b"0\r\n\r\n" + HIDDEN
CODING = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: %d" % len(BODY)
SHORT = b"Content-Length: 5"  # up to where the chunked coding ends
PLACES = {
    "before the name": rb"\g<byte>\g<name>-\g<rest>: \g<value>",
    "within the name": rb"\g<name>\g<byte>-\g<rest>: \g<value>",
    "for the hyphen": rb"\g<name>\g<byte>\g<rest>: \g<value>",
    "after the name": rb"\g<name>-\g<rest>\g<byte>: \g<value>",
    "for the colon": rb"\g<name>-\g<rest>\g<byte>\g<value>",
    "after the colon": rb"\g<name>-\g<rest>:\g<byte>\g<value>",
    "within the value": rb"\g<name>-\g<rest>: \g<first>\g<byte>\g<others>",
    "after the value": rb"\g<name>-\g<rest>: \g<value>\g<byte>",
    "on a line of its own": rb"\g<byte>\r\n\g<name>-\g<rest>: \g<value>",
    "behind another field": rb"X: y\g<byte>\g<name>-\g<rest>: \g<value>",
    "before a folded value": rb"\g<name>-\g<rest>:\r\n\g<byte>\g<value>",
}
FRAMING = re.compile(rb"(?P<name>\w+)-(?P<rest>\w+): (?P<value>(?P<first>.)(?P<others>.*))")


def put(byte, place, field):
    found = FRAMING.fullmatch(field)
    return re.sub(
        rb"\\g<(\w+)>", lambda name: byte if name[1] == b"byte" else found[name[1].decode()], PLACES[place]
    ).replace(rb"\r\n", b"\r\n")


def check(*lines):
    """What is made of a request with these fields, and that everybody makes the same of it."""
    head = b"".join(line + b"\r\n" for line in (b"POST / HTTP/1.1", b"Host: x", *lines))
    outcome, exchange = read_requests([head + b"\r\n" + BODY])
    seen = [message for stream in exchange.backends for message in requests_by_both(stream)]
    assert len(seen) == outcome.whole, (head, outcome)
    for message in seen:
        names = [re.sub(rb"[^a-z0-9]", b"-", name) for name, _ in message.fields]
        assert sum(name in (b"transfer-encoding", b"content-length") for name in names) <= 1, head
    return outcome


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("others", [[], [LENGTH], [SHORT], [CODING]], ids=["alone", "length", "short", "coding"])
@pytest.mark.parametrize("field", [CODING, LENGTH, SHORT], ids=["coding", "length", "short"])
def test_no_byte_in_a_framing_field_makes_two_readers_differ(place, others, field):
    for value in range(256):
        changed = put(bytes([value]), place, field)
        check(changed, *others)
        check(*others, changed)


TRICKS = [
    b"Transfer-Encoding: chunked, cow",
    b"Transfer-Encoding: cow, chunked",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
    b"Transfer-Encoding: cow chunked bar",
    b"Transfer-Encoding: 'chunked'",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunk",
    b"Transfer-Encoding: chunked;",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,",
    b"Transfer-Encoding: {chunked}",
    b"Transfer-Encoding:",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding\r\n: chunked",
    b"Transfer-Encoding: chunked\r",
    b"X: y\rTransfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"Transfer Encoding: chunked",
    b"Transfer-Encoding chunked",
    b"Transf\x82r-Encoding: chunked",
    b"Transfer-Encoding: ch\x96nked",
    b"Transfer-Encoding: \xef\xbb\xbfchunked",
    b"Foo\r\nTransfer-Encoding: chunked",
    b"\xa0Transfer-Encoding: chunked",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("length", [LENGTH, SHORT], ids=["length", "short"])
def test_a_coding_in_disguise_beside_a_length_is_refused(trick, length):
    assert check(trick, length).refused
    assert check(length, trick).refused


@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"Transfer.Encoding", b"TRANSFER~ENCODING"])
def test_a_name_that_a_gateway_folds_into_a_framing_field_goes_no_further(name):
    outcome, exchange = read_requests(
        [b"POST / HTTP/1.1\r\nHost: x\r\n" + name + b": chunked\r\n" + SHORT + b"\r\n\r\n0\r\n\r\n"]
    )

    assert (outcome.whole, outcome.end) == (1, "idle")
    assert b"hunked" not in exchange.backends[0]


LENGTHS = [
    b"5, 5",
    b"5,6",
    b"+5",
    b"-5",
    b"-0",
    b"05x",
    b"0x5",
    b"5.0",
    b"5e0",
    b"1_0",
    b"5 6",
    b"",
    b"\xb2",
    b"9" * 19,
]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_that_is_no_plain_number_is_refused(length):
    assert check(b"Content-Length: " + length).refused


@pytest.mark.parametrize("first", [5, 6])
def test_a_second_length_is_refused_even_if_it_is_the_same(first):
    assert check(b"Content-Length: %d" % first, SHORT).refused


SIZES = [
    b"5;a\nb", b"5\n", b"\n5", b"5\r", b" 5", b"\t5", b"+5", b"-5", b"0x5", b"5g", b"5_", b"5 5", b"5 ;a\r", b"", b";a",
    b"5;\x00", b"5,5", b"1" * 16, b"5;a\x7f",
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_whose_size_readers_differ_on_is_refused_and_never_ends(size):
    wire = b"POST / HTTP/1.1\r\nHost: x\r\n" + CODING + b"\r\n\r\n" + size + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN
    outcome, exchange = read_requests([wire])

    assert outcome.refused
    assert outcome.whole == 0
    assert b"hidden" not in b"".join(exchange.backends)
