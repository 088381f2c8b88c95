"""
One HTTP/1.1 request: bytes in, a request or a refusal out; an answer in, bytes out. No I/O.

h11 reads strictly; what is left to decide here are the sizes, and that a request says its length before its body.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import h11

MOST_BODY: Final = 16 * 1024
"""Bytes: the request of an RSA-8192 key with a hundred long names has 15,000."""
MOST_HEAD: Final = 8 * 1024
"""Bytes: a token has 197."""


class BadRequest(Exception):  # noqa: N818 - somebody else's fault, to be answered
    """Bytes that are answered before anybody looks at what they ask for."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks."""

    method: str
    path: str
    token: str = field(repr=False)
    """Empty where there is none."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said to it."""

    status: int
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Told as JSON."""
    text: str = ""
    """Told instead, if there is any."""
    kind: str = "text/plain; charset=utf-8"
    """The type of that text."""
    allow: str = ""
    """The method that would be right, for 405."""
    retry_after: float = 0
    """Seconds; 0 for never."""


class Exchange:
    """The server's side of one connection, which carries one request."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def receive(self, data: bytes) -> Request | None:
        """The request, once it is whole; None for "need more". Empty `data`: the client has ended. BadRequest."""
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return None
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                    return self._whole(self._head)
                else:
                    raise BadRequest(400, "expected one request of HTTP/1.1")
        except h11.RemoteProtocolError as error:
            hint = error.error_status_hint
            # Its words show what was sent, which may be a token.
            raise BadRequest(hint if hint in (431, 501) else 400, "expected one request of HTTP/1.1") from None

    def interim(self) -> bytes:
        """What the client waits for before it sends its body, if it does."""
        if not self._connection.they_are_waiting_for_100_continue:
            return b""
        return self._connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""

    def answer(self, answer: Answer) -> bytes:
        """The whole response; the connection is to be closed after it."""
        body = answer.text.encode() if answer.text else json.dumps(answer.content).encode() + b"\n"
        headers = [
            ("Content-Type", answer.kind if answer.text else "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
        ]
        if answer.retry_after:
            headers.append(("Retry-After", str(math.ceil(answer.retry_after))))
        if answer.allow:
            headers.append(("Allow", answer.allow))
        reason = HTTPStatus(answer.status).phrase
        sent = [
            self._connection.send(h11.Response(status_code=answer.status, headers=headers, reason=reason)),
            self._connection.send(h11.Data(data=body)) if not self._bodiless() else b"",
            self._connection.send(h11.EndOfMessage()) if not self._bodiless() else b"",
        ]
        return b"".join(each or b"" for each in sent)

    def _begin(self, head: h11.Request) -> None:
        self._head = head
        lengths = [value for name, value in head.headers if name == b"content-length"]
        if any(name == b"transfer-encoding" for name, _ in head.headers) or (head.method == b"POST" and not lengths):
            raise BadRequest(411, "expected Content-Length")
        # h11 let pass one number only, of twenty digits at most.
        if lengths and int(lengths[0]) > MOST_BODY:
            raise BadRequest(413, f"expected a body of at most {MOST_BODY} bytes")

    def _bodiless(self) -> bool:
        return self._head is not None and self._head.method == b"HEAD"

    def _whole(self, head: h11.Request) -> Request:
        return Request(
            method=head.method.decode("ascii"),
            path=head.target.decode("ascii"),
            token=_token([value for name, value in head.headers if name == b"authorization"]),
            body=bytes(self._body),
        )


def _token(values: list[bytes]) -> str:
    """The bearer token (RFC 6750, 2.1); "" if there is none, or more than one."""
    if len(values) != 1:
        return ""
    scheme, _, token = values[0].decode("latin-1").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""
