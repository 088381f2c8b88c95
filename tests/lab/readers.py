"""Other people's readers of HTTP/1.1, made to tell one thing: which messages they see in a stream."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import h11
import httptools

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH")
Fields = list[tuple[bytes, bytes]]
_REQUEST_LINE = re.compile(rb"(?m)^[!-~]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r$")
_UTF8 = re.compile(rb"[\x80-\xff]")


class Message(NamedTuple):
    """One message as a reader saw it."""

    first: tuple[bytes, bytes]
    """Method and target, or status and an empty string."""
    fields: Fields
    """Names in lower case."""
    body: bytes
    trailers: Fields
    whole: bool = True


class Unreadable(Exception):  # noqa: N818 - an answer of a reader, not a fault of ours
    """The reader refuses the stream."""


def requests_by_h11(stream: bytes) -> list[Message]:
    """
    The requests that h11 sees as a server; the last may not be whole.

    It knows no keep-alive in HTTP/1.0: that is added here.
    """
    seen: list[Message] = []
    while stream:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        peer.receive_data(stream)
        stream = _connection_of_h11(peer, seen)
    return seen


def _connection_of_h11(peer: h11.Connection, seen: list[Message]) -> bytes:
    """One connection's requests; what is left for another."""
    while True:
        try:
            message = _next_of_h11(peer)
        except h11.RemoteProtocolError as error:
            raise Unreadable(seen) from error
        if message is None:
            return b""
        seen.append(message)
        if not message.whole:
            return b""
        peer.send(h11.Response(status_code=204, headers=[]))
        peer.send(h11.EndOfMessage())
        if peer.our_state is not h11.DONE or peer.their_state is not h11.DONE:
            return peer.trailing_data[0] if (b"connection", b"keep-alive") in message.fields else b""
        peer.start_next_cycle()


def response_by_h11(stream: bytes, method: bytes = b"GET", *, ended: bool = False) -> Message | None:
    """The final response that h11 sees as a client, if it is whole. `ended`: the connection was closed in order."""
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    if stream:
        peer.receive_data(stream)
    if ended:
        peer.receive_data(b"")
    try:
        message = _next_of_h11(peer)
    except h11.RemoteProtocolError as error:
        raise Unreadable from error
    return message if message is not None and message.whole else None


def _next_of_h11(peer: h11.Connection) -> Message | None:
    first = (b"", b"")
    fields: Fields = []
    body = b""
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Request):
            first, fields = (event.method, event.target), list(event.headers)
        elif isinstance(event, h11.Response):
            first, fields = (b"%d" % event.status_code, b""), list(event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Message(first, fields, body, list(event.headers))
        elif not isinstance(event, h11.InformationalResponse):
            return Message(first, fields, body, [], whole=False) if first[0] else None


class _Listener:
    """Collects what llhttp says."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.seen: list[Message] = []
        self._begin()

    def _begin(self) -> None:
        self._target = self._body = b""
        self._fields: Fields = []
        self._trailers: Fields = []
        self._in_body = False

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        (self._trailers if self._in_body else self._fields).append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_body = True
        if isinstance(self.parser, httptools.HttpRequestParser):
            self._first = (self.parser.get_method(), self._target)
        else:
            self._first = (b"%d" % self.parser.get_status_code(), b"")

    def on_body(self, part: bytes) -> None:
        self._body += part

    def on_message_complete(self) -> None:
        if self._first[0][:1] != b"1" or self._first[0] == b"101":  # not an interim response
            self.seen.append(Message(self._first, self._fields, self._body, self._trailers))


def requests_by_both(stream: bytes) -> list[Message]:
    """The whole requests that h11 and llhttp see; AssertionError where they see different ones."""
    stream = _REQUEST_LINE.sub(lambda line: _UTF8.sub(b"_", line[0]), stream)  # neither takes UTF-8 in a target
    seen = requests_by_h11(stream)
    others, fault = requests_by_llhttp(stream)
    if fault is not None:
        assert "method" in str(fault), (fault, others)
        assert seen[len(others)].first[0] not in METHODS, "llhttp knows some methods and no others"
        assert others == seen[: len(others)]
    whole = [message for message in seen if message.whole]
    assert fault is not None or others == whole
    return whole


def requests_by_llhttp(stream: bytes) -> tuple[list[Message], Exception | None]:
    """The whole requests that llhttp sees, and why no more."""
    listener = _Listener()
    while stream:
        listener.parser = httptools.HttpRequestParser(listener)
        try:
            listener.parser.feed_data(stream)
        except httptools.HttpParserUpgrade as offered:  # declined: what follows is the next request
            stream = stream[offered.args[0] :]
        except httptools.HttpParserError as error:
            return listener.seen, error
        else:
            break
    return listener.seen, None


def response_by_llhttp(stream: bytes) -> Message | None:
    """The final response to a GET that llhttp sees, if it is whole before the end of the stream."""
    listener = _Listener()
    listener.parser = httptools.HttpResponseParser(listener)
    try:
        listener.parser.feed_data(stream)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise Unreadable(listener.seen) from error
    return listener.seen[0] if listener.seen else None
