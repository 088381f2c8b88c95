"""Any bytes are a request, a refusal with a status, or not enough yet."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.serving.http import MOST_BODY, MOST_HEAD, Answer, BadRequest, Exchange

POST = b"POST /v1/certificate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nContent-Length: 3\r\n\r\nabc"


def test_a_request_is_read_in_whatever_pieces_it_comes():
    for size in (1, 7, len(POST)):
        exchange = Exchange()
        found = [exchange.receive(POST[at : at + size]) for at in range(0, len(POST), size)]

        assert found[:-1] == [None] * (len(found) - 1)
        request = found[-1]
        assert (request.method, request.path, request.token, request.body) == ("POST", "/v1/certificate", "t", b"abc")


def test_a_repr_shows_neither_token_nor_body():
    assert repr(Exchange().receive(POST)) == "Request(method='POST', path='/v1/certificate')"


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (b"Authorization: Bearer  x ", "x"),
        (b"authorization: bearer x", "x"),
        (b"Authorization: Basic x", ""),
        (b"Authorization: Bearer", ""),
        (b"X: y", ""),
        (b"Authorization: Bearer x\r\nAuthorization: Bearer x", ""),
        (b"Authorization: Bearer \xe4", "\xe4"),
    ],
)
def test_a_token_is_there_once_or_not_at_all(header, token):
    assert Exchange().receive(b"GET / HTTP/1.1\r\nHost: a\r\n" + header + b"\r\n\r\n").token == token


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (MOST_BODY + 1), 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MOST_HEAD, 431),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_what_is_wrong_has_its_status(data, status):
    exchange = Exchange()
    with pytest.raises(BadRequest) as error:
        exchange.receive(data)

    assert error.value.status == status
    assert "\n" not in str(error.value)
    answer = exchange.answer(Answer(status=status, content={"error": "x"}))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_client_that_only_looks_whether_somebody_is_there_is_no_error():
    assert Exchange().receive(b"") is None


def test_a_client_that_ends_in_the_middle_is_told():
    for data in (POST[:20], POST[:-1]):
        exchange = Exchange()
        assert exchange.receive(data) is None
        with pytest.raises(BadRequest):
            exchange.receive(b"")


def test_a_client_that_waits_to_be_let_on_is_let_on_once():
    exchange = Exchange()
    exchange.receive(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")

    assert exchange.interim().startswith(b"HTTP/1.1 100 ")
    assert exchange.interim() == b""


def test_an_answer_ends_the_connection_and_says_what_else_there_is_to_say():
    exchange = Exchange()
    exchange.receive(POST)
    data = exchange.answer(Answer(status=429, content={"error": "x"}, allow="GET", retry_after=0.1))
    head, _, body = data.partition(b"\r\n\r\n")

    assert head.split(b"\r\n")[0] == b"HTTP/1.1 429 Too Many Requests"
    assert set(head.split(b"\r\n")[1:]) == {
        b"Content-Type: application/json", b"Content-Length: %d" % len(body), b"Cache-Control: no-store",
        b"Connection: close", b"Retry-After: 1", b"Allow: GET",
    }  # fmt: skip
    assert body == b'{"error": "x"}\n'


def test_head_is_answered_without_a_body():
    exchange = Exchange()
    exchange.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="HEAD", target="/", headers=[("Host", "a")]))
    client.receive_data(exchange.answer(Answer(status=405, content={"error": "x"})))

    assert isinstance(client.next_event(), h11.Response)
    assert isinstance(client.next_event(), h11.EndOfMessage)


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([POST, POST[:30], POST[30:], b"\r\n", b""]))))
def test_any_bytes_have_a_promised_outcome(pieces):
    exchange, status = Exchange(), 0
    for piece in pieces:
        try:
            request = exchange.receive(piece)
        except BadRequest as error:
            status = error.status
        else:
            status = 200 if request is not None else 0
            assert request is None or len(request.body) <= MOST_BODY
        if status or not piece:
            break

    assert status in (0, 200, 400, 411, 413, 431, 501)
    assert not status or exchange.answer(Answer(status=status, content={})).startswith(b"HTTP/1.1 %d " % status)
