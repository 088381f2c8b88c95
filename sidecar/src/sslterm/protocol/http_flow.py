"""
The flow of HTTP/1.1 between one client and its backend, one exchange at a time.

The state of each side is the method that takes its next bytes: `_client` for the request, `_backend` for the response;
an exchange is over when both are. Bytes of a pipelined request stay in `_held` until the response before it is whole,
so responses cannot be mixed up, and what a backend sends without being asked never reaches a client.

One file of some length, because it owns the whole state machine of an exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import Final

from sslterm.protocol.chunked import ChunkedBody
from sslterm.protocol.fields import ProtocolError
from sslterm.protocol.flows import Flow, Record, Waiting
from sslterm.protocol.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadReader,
    Request,
    Response,
    read_request,
    read_response,
)

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})  # RFC 9110, section 9.2.2
_CLIENT_GONE: Final = 499
"""What nginx logs for a client that left before it had an answer, and everybody since. Never sent."""

_CHUNKED_LINE: Final = b"\r\nTransfer-Encoding: chunked\r\n"

_NEXT_REQUEST: Final = Waiting.NEXT_REQUEST
_RESPONSE: Final = Waiting.RESPONSE
_RESPONSE_BODY: Final = Waiting.RESPONSE_BODY
_OK: Final = 200
_LOGGED: Final = 2049
"""Bytes of a target: one more than the log shows, so that it can say that there were more."""
_SWITCHING: Final = 101

_State = Callable[["HttpFlow", memoryview, float], "bytes | memoryview"]
"""A plain function, not a bound method: those would make a cycle of each flow, which only the collector frees."""


class HttpFlow(Flow):
    """HTTP/1.1: heads are checked and rewritten, bodies pass, each exchange leaves a record."""

    __slots__ = (
        "_backend", "_before", "_busy_since", "_client", "_denied", "_draining", "_ended", "_head_limit", "_held",
        "_identity", "_idle", "_peer", "_persists", "_received", "_replay", "_request", "_request_body",
        "_request_head", "_request_left", "_response", "_response_body", "_response_head", "_response_left",
        "_reused", "_says_peer", "_sent", "_started", "_status", "_trusted", "_whole",
    )  # fmt: skip

    def __init__(
        self, *, peer: bytes, trusted: bool, max_head_size: int, identity: bytes = b"", denied: str = ""
    ) -> None:
        """
        `peer`: the client's IP address. `trusted`: it may say for whom it forwards. Sizes in bytes.

        `identity`: header fields that say who it proved to be, each with its CR LF. `denied`: why it may not call:
        its first request is then answered with that.
        """
        super().__init__(Waiting.NEXT_REQUEST)
        self._peer = peer
        self._identity = identity
        self._denied = denied
        self._says_peer = b"%bX-Forwarded-For: %b\r\nX-Real-Ip: %b\r\n\r\n" % (identity, peer, peer)
        self._trusted = trusted
        self._head_limit = max_head_size
        self._request_head = HeadReader(max_head_size)
        self._response_head = HeadReader(max_head_size)
        self._request_body: ChunkedBody | None = None
        self._response_body: ChunkedBody | None = None
        self._client: _State = HttpFlow._denied_begins if denied else HttpFlow._request_begins
        self._backend: _State = HttpFlow._unasked
        self._held = b""
        self._replay = b""
        self._reused = False
        self._draining = False
        self._ended = False
        self._idle = True
        self._started = self._busy_since = 0.0
        self._before = 0
        """Bytes of bodies in earlier exchanges since `_busy_since`."""
        self._whole = False
        """The request is."""
        self._request: Request | None = None
        self._response: Response | None = None
        self._persists = True
        self._status = self._received = self._sent = 0
        self._request_left = self._response_left = 0

    def pace(self, now: float) -> tuple[float, float]:
        age = now - self._busy_since
        return (age, (self._before + self._received + self._sent) / age) if age > 0 else (0.0, inf)

    # What the client sends.

    def from_client(self, data: memoryview, now: float) -> bytes | memoryview:
        try:
            return self._client(self, data, now)
        except ProtocolError as error:
            self._answer(now, error.status, str(error))
            return b""

    def _request_begins(self, data: memoryview, now: float) -> bytes:
        # Forget the exchange before.
        self._started = self._busy_since = now
        self._before = 0
        self._idle = self._whole = False
        self._request = self._response = None
        self._persists = not self._draining
        self._status = self._received = self._sent = 0
        self._client = HttpFlow._request_goes_on
        return self._request_goes_on(data, now)

    def _denied_begins(self, data: memoryview, now: float) -> bytes:
        """The request of a client that may not call. Read, so that it gets its answer and the log says for what."""
        self._started = self._busy_since = now
        self._idle = False
        self._client = HttpFlow._denied_goes_on
        return self._denied_goes_on(data, now)

    def _denied_goes_on(self, data: memoryview, now: float) -> bytes:
        self.waiting = Waiting.HEAD
        whole = self._request_head.feed(data)
        if whole is not None:
            self._request = read_request(whole[0], trusted=False)
            raise ProtocolError(HTTPStatus.FORBIDDEN, self._denied)
        return b""

    def _request_goes_on(self, data: memoryview, now: float) -> bytes:
        whole = self._request_head.feed(data)
        if whole is None:
            if self._request_head.started:
                self.waiting = Waiting.HEAD
            else:  # nothing but an empty line, which is to be ignored
                self._await_request()
            return b""
        head, rest = whole
        request = read_request(head, trusted=self._trusted)
        meaning = request.meaning
        self._request = request
        if not meaning.persists:
            self._persists = False
        self._backend = HttpFlow._response_begins
        said = self._says_peer
        if request.forwarded_for or request.forwarded:
            said = self._continue_list(request)
        out = b"".join(
            (request.line, meaning.named, request.lines, meaning.framed, meaning.called, meaning.options, said)
        )
        self._replay = b""
        if not self._reused:
            self._reused = True
            self.dial = self.todo = True
            repeatable = False
        else:
            # The backend may close an idle connection just as we use it: a request that it never answered, and that
            # may be repeated, is then sent once more on a new one.
            repeatable = request.method in _IDEMPOTENT and not meaning.upgrade
        if not meaning.length:
            self._request_is_whole()
            if repeatable:
                self._replay = out
        elif meaning.length == CHUNKED:
            self._request_body = ChunkedBody(self._head_limit)
            self._client = HttpFlow._chunked_request
            self.waiting = Waiting.REQUEST_BODY
        else:
            self._request_left = meaning.length
            self._client = HttpFlow._counted_request
            self.waiting = Waiting.REQUEST_BODY
        return b"".join((out, self._client(self, memoryview(rest), now))) if rest else out

    def _continue_list(self, request: Request) -> bytes:
        """What is said of a peer that may speak for others."""
        before = request.forwarded_for
        line = self._identity + b"X-Forwarded-For: " + (b"%b, %b" % (before, self._peer) if before else self._peer)
        if b"x-real-ip" not in request.forwarded:
            line += b"\r\nX-Real-Ip: " + self._peer
        return line + b"\r\n\r\n"

    def _await_request(self) -> None:
        self._client = HttpFlow._request_begins
        self._idle = True
        self.waiting = _NEXT_REQUEST

    def _counted_request(self, data: memoryview, now: float) -> memoryview:
        count = len(data)
        if count < self._request_left:
            self._request_left -= count
            self._received += count
            return data
        body = data[: self._request_left]
        self._received += len(body)
        self._request_left = 0
        self._request_is_whole()
        if count > len(body):
            self._next_waits(data[len(body) :], now)
        return body

    def _chunked_request(self, data: memoryview, now: float) -> bytes:
        body = self._request_body
        assert body is not None  # noqa: S101 - for the type checker: set together with this state
        out, used = body.feed(data)
        self._received = body.received
        if body.done:
            self._request_is_whole()
            if used < len(data):
                self._next_waits(data[used:], now)
        return out

    def _request_is_whole(self) -> None:
        self._client = HttpFlow._next_waits
        self._whole = True
        if self._response is None:
            self.waiting = _RESPONSE

    def _next_waits(self, data: memoryview, now: float) -> bytes:
        self._held += data
        self.hold = self.todo = True
        return b""

    @property
    def can_resume(self) -> bool:
        return bool(self._held) and not self._whole

    def resume(self, now: float) -> bytes | memoryview:
        held, self._held = self._held, b""
        self.hold = False
        # Exchanges without a pause are one stretch: a client must not seem new because it began the next one in time.
        since, before = self._busy_since, self._before + self._received + self._sent
        out = self.from_client(memoryview(held), now)
        self._busy_since, self._before = since, before
        if self._ended and not self.over:
            self.client_ended(now)
        return out

    def _client_tunnel(self, data: memoryview, now: float) -> memoryview:
        self._received += len(data)
        return data

    # What the backend sends.

    def from_backend(self, data: memoryview, now: float) -> bytes | memoryview:
        try:
            return self._backend(self, data, now)
        except ProtocolError as error:
            self._answer(now, HTTPStatus.BAD_GATEWAY, f"the backend's response is malformed: {error}")
            return b""

    def _unasked(self, data: memoryview, now: float) -> bytes:
        self._lose_backend()
        return b""

    def _response_begins(self, data: memoryview, now: float) -> bytes:
        request = self._request
        assert request is not None  # noqa: S101 - for the type checker: this state follows a request
        self._replay = b""
        out = b""
        whole = self._response_head.feed(data)
        while whole is not None:
            head, rest = whole
            response = read_response(head, request.method)
            if response.status >= _OK:
                out += self._final(request, response)
            elif response.status == _SWITCHING:
                out += self._switch(request, response)
            else:
                if request.minor:  # a client of HTTP/1.0 knows no interim responses (RFC 9110, section 15.2)
                    out += response.head + b"\r\n"
                whole = self._response_head.feed(rest)
                continue
            if response.length >= 0 and response.status != _SWITCHING:
                # Also with nothing left: a response without a body ends here.
                return b"".join((out, self._counted_response(rest, now))) if rest or not response.length else out
            return b"".join((out, self._backend(self, memoryview(rest), now))) if rest else out
        return out

    def _switch(self, request: Request, response: Response) -> bytes:
        """The head of a 101 for the client; from here on bytes just pass."""
        if not request.meaning.upgrade or not self._whole:
            raise ProtocolError(HTTPStatus.BAD_GATEWAY, "101 without having been asked")
        self._response = response
        self._status = response.status
        self._client = HttpFlow._client_tunnel
        self._whole = False
        self._backend = HttpFlow._backend_tunnel
        self.waiting = Waiting.TUNNEL
        self.end_backend = self._ended and not self._held
        self.todo = True
        return response.head + b"Connection: Upgrade\r\n\r\n"

    def _final(self, request: Request, response: Response) -> bytes:
        """The head of the response for the client; sets the state that reads its body."""
        self._response = response
        self._status = response.status
        self.waiting = _RESPONSE_BODY
        head, length = response.head, response.length
        if not self._whole or self._draining or (self._ended and not self._held) or length == UNTIL_CLOSE:
            # Answered before the request was whole: nobody knows whether the client will send the rest, so what
            # follows on its connection could not be told apart (RFC 9110, section 10.1.1).
            self._persists = False
        if length >= 0:
            self._response_left = length
            self._backend = HttpFlow._counted_response
        elif length == CHUNKED:
            self._response_body = ChunkedBody(self._head_limit, plain=not request.minor)
            self._backend = HttpFlow._chunked_response
            if not request.minor:
                self._persists = False
        else:
            self._backend = HttpFlow._response_until_close
        if not request.minor:  # in the answer to a HEAD, too
            head = head.replace(_CHUNKED_LINE, b"\r\n")
        if not self._persists:
            return head + b"Connection: close\r\n\r\n"
        return head + (b"\r\n" if request.minor else b"Connection: keep-alive\r\n\r\n")

    def _counted_response(self, data: bytes | memoryview, now: float) -> bytes | memoryview:
        count, left = len(data), self._response_left
        if count < left:
            self._response_left = left - count
            self._sent += count
            return data
        self._sent += left
        self._response_left = 0
        self._response_is_whole(now, extra=count > left)
        return data if count == left else data[:left]

    def _chunked_response(self, data: memoryview, now: float) -> bytes:
        body = self._response_body
        assert body is not None  # noqa: S101 - for the type checker: set together with this state
        out, used = body.feed(data)
        self._sent = body.received
        if body.done:
            self._response_is_whole(now, extra=used < len(data))
        return out

    def _response_until_close(self, data: memoryview, now: float) -> memoryview:
        self._sent += len(data)
        return data

    def _backend_tunnel(self, data: memoryview, now: float) -> memoryview:
        self._sent += len(data)
        return data

    def _response_is_whole(self, now: float, *, extra: bool) -> None:
        response = self._response
        if extra or not self._whole or response is None or not response.persists:
            self._lose_backend()
        self._backend = HttpFlow._unasked
        self._record(now, "")
        if self._persists and (self._held or not self._ended):
            self._await_request()
            self._whole = False
            if self.hold:
                self.hold = bool(self._held)
                self.todo = True
        else:
            self._close()

    # How things end.

    @property
    def idle(self) -> bool:
        return self._idle and not self._held

    def _lose_backend(self) -> None:
        self.hang_up = self.todo = True
        self._reused = False

    def _close(self) -> None:
        self._client = HttpFlow._next_waits
        self._whole = True
        self._idle = False
        self._held = b""
        self.hold = self.over = self.todo = True

    def _answer(self, now: float, status: int, fault: str) -> None:
        """End the exchange with an answer of our own or, where a response has begun, by cutting it off."""
        self._lose_backend()
        if self._status:
            self.lost = True
        else:
            self._status = status
            phrase = HTTPStatus(status).phrase
            # What the backend did wrong is for the log only.
            told = phrase if status >= HTTPStatus.INTERNAL_SERVER_ERROR else f"{phrase}: {fault}"
            body = f"{status} {told}\n".encode()
            head = (
                b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
                b"Connection: close\r\n\r\n" % (status, phrase.encode(), len(body))
            )
            if self._request is not None and self._request.method == b"HEAD":
                body = b""
            self._sent = len(body)
            self.reply += head + body
        self._record(now, fault)
        self._backend = HttpFlow._unasked
        self.dial = False
        self._close()

    def _record(self, now: float, fault: str) -> None:
        request = self._request
        method = request.method.decode("latin-1") if request else "-"
        target = request.target[:_LOGGED].decode("latin-1") if request else "-"
        self.records.append(Record(self._started, now, self._status, method, target, self._received, self._sent, fault))

    def client_ended(self, now: float) -> None:
        self._ended = self.todo = True
        if self.waiting == Waiting.TUNNEL:
            self.end_backend = True
            self._tunnel_end(now)
        elif self.waiting == Waiting.NEXT_REQUEST:
            self.over = not self._held  # `resume` tells again
        elif not self._whole:
            self.client_lost(now, "the client closed before its request was whole")
        # Else it may still read: what it asked, pipelined requests too, is answered before its connection is closed.

    def _tunnel_end(self, now: float) -> None:
        if self.end_client and self.end_backend:
            self.over = True
            self._record(now, "")

    def client_lost(self, now: float, fault: str) -> None:
        if self.lost or self.over:
            return
        self.lost = self.todo = True
        if not self.idle:
            self._status = self._status or _CLIENT_GONE
            self._record(now, fault)

    def client_late(self, now: float) -> None:
        if self.idle:
            self.over = self.todo = True
        elif self.waiting in (Waiting.HEAD, Waiting.REQUEST_BODY) and not self._status:
            self._answer(now, HTTPStatus.REQUEST_TIMEOUT, "the request was not whole in time")
        else:
            self.client_lost(now, "timed out")

    def backend_ended(self, now: float, fault: str) -> bytes:
        self._reused = False
        if self._backend is HttpFlow._unasked:
            return b""
        if self._backend is HttpFlow._backend_tunnel:
            if fault:
                self.client_lost(now, fault)
            else:
                self.end_client = self.todo = True
                self._tunnel_end(now)
        elif self._backend is HttpFlow._response_until_close and not fault:
            self._response_is_whole(now, extra=False)
        elif self._replay:
            again, self._replay = self._replay, b""
            self.dial = self.todo = True
            return again
        else:
            self._answer(now, HTTPStatus.BAD_GATEWAY, fault or "the backend closed before its response was whole")
        return b""

    def backend_failed(self, now: float, status: int, fault: str) -> None:
        if self.waiting == Waiting.TUNNEL:
            self.client_lost(now, fault)
        elif self._backend is not HttpFlow._unasked:
            self._answer(now, status, fault)

    def drain(self) -> None:
        # A client that waits may be sending its next request just now: that one is answered, too. So is the one after
        # a response whose head is gone without a word of the end.
        self._draining = True

    def undrain(self) -> None:
        self._draining = False
