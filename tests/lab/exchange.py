"""
The flow of HTTP without sockets, both ways: what it makes of a client's or a backend's bytes, as one line of text.

`Outcome` is what the corpus states beside each case, and what must not depend on how the bytes were cut into pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sslterm.protocol.flows import Record, Waiting
from sslterm.protocol.http_flow import HttpFlow

HEAD_LIMIT = 8192
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_TO_UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
REFUSALS = (400, 417, 431, 501, 505)
"""The statuses of a ProtocolError that a client may be told; a backend's is always 502."""


class Outcome(NamedTuple):
    """How many messages passed whole, and why there were no more."""

    whole: int
    end: str
    """
    "idle": all was read; "more": one is not all there; "closed": the sender asked for it, what follows is not read;
    "tunnel"; or the status of a refusal.
    """

    def __str__(self) -> str:
        return f"{self.whole}, {self.end}"

    @property
    def refused(self) -> bool:
        return self.end.isdigit()


class Exchange:
    """One client's connection: obeys the flow as the relay does. A backend answers each request once it is whole."""

    def __init__(self, answer: bytes = ANSWER) -> None:
        self.flow = HttpFlow(peer=b"192.0.2.1", trusted=False, max_head_size=HEAD_LIMIT)
        self.backends: list[bytes] = []
        """What each backend connection was sent."""
        self.to_client = b""
        self.records: list[Record] = []
        self.answered = 0
        self.connected = False
        self._answer = answer

    @property
    def open(self) -> bool:
        return not (self.flow.over or self.flow.lost)

    def client(self, data: bytes) -> None:
        if self.open:
            self._obey(self.flow.from_client(memoryview(data), 0.0))
        while self._answer and self.open and self.flow.waiting == Waiting.RESPONSE:
            self.answered += 1
            self.backend(self._answer)

    def backend(self, data: bytes) -> None:
        if self.open and self.connected:
            self.to_client += self.flow.from_backend(memoryview(data), 0.0)
            self._obey(b"")

    def backend_ends(self) -> None:
        if self.open and self.connected:
            self.connected = False
            self._obey(self.flow.backend_ended(0.0, ""))

    def _obey(self, out: bytes | memoryview) -> None:
        flow = self.flow
        sent = [bytes(out)]
        if flow.hang_up:
            flow.hang_up = self.connected = False
        if not flow.lost and flow.can_resume:
            sent.append(bytes(flow.resume(0.0)))
            if flow.hang_up:
                flow.hang_up = self.connected = False
        if flow.dial:
            flow.dial = False
            if not self.connected:
                self.connected = True
                self.backends.append(b"")
        if self.backends:
            self.backends[-1] += b"".join(sent)
        self.to_client += flow.reply
        flow.reply = b""
        self.records += flow.records
        flow.records.clear()


def read_requests(pieces: Iterable[bytes]) -> tuple[Outcome, Exchange]:
    """What becomes of the bytes of a client."""
    exchange = Exchange()
    for piece in pieces:
        if piece:
            exchange.client(piece)
    flow = exchange.flow
    fault = exchange.records[-1] if exchange.records and exchange.records[-1].fault else None
    if fault is not None:
        end = str(fault.status)
    elif flow.over:
        end = "closed"
    elif flow.idle:
        end = "idle"
    else:
        end = "more"
    return Outcome(exchange.answered, end), exchange


def read_response(pieces: list[bytes], asked: bytes = ASK) -> tuple[Outcome, Exchange]:
    """What becomes of the bytes of a backend that was asked once, and that closes its connection after them."""
    exchange = Exchange(answer=b"")
    exchange.client(asked)
    for piece in pieces:
        if piece:
            exchange.backend(piece)
    flow = exchange.flow
    if flow.waiting == Waiting.TUNNEL:
        return Outcome(1, "tunnel"), exchange
    if exchange.records and exchange.records[-1].fault:
        return Outcome(0, "502"), exchange  # or, where the response had begun, cut
    if exchange.records:
        return Outcome(1, "idle"), exchange
    exchange.backend_ends()
    if exchange.records[-1].fault:
        return Outcome(0, "more"), exchange
    return Outcome(1, "closed"), exchange
