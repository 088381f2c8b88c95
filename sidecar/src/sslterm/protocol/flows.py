"""
Flows of bytes between one client and its backend: the interface that a connection knows, and the flow of raw bytes.

A flow is handed plaintext of one side and answers with the bytes for the other; what has to be done besides (dial,
hang up, close, wait) it says in its attributes, which the connection looks at after every call. It never waits, sends
or logs by itself. The other flow, HTTP/1.1, is in `http_flow`.
"""

from __future__ import annotations

import enum
from math import inf
from typing import NamedTuple


class Waiting(enum.IntEnum):
    """What a flow waits for: decides which time limit is running."""

    NEXT_REQUEST = 1
    HEAD = 2
    REQUEST_BODY = 3
    RESPONSE = 4
    RESPONSE_BODY = 5
    TUNNEL = 6


class Record(NamedTuple):
    """One finished exchange (or, in tcp mode, connection), for the access log. Times are of the clock given."""

    started: float
    ended: float
    status: int
    """HTTP status that the client got; 0 in tcp mode."""
    method: str
    """Empty in tcp mode."""
    target: str
    """Of the request; without a method, whom this connection called, or empty if it is a client's."""
    received: int
    """Bytes of content from the client."""
    sent: int
    """Bytes of content to the client."""
    fault: str
    """Why it did not end as it should; else empty."""


class Flow:
    """What both flows have in common: the decisions that a connection has to look at."""

    __slots__ = (
        "dial", "end_backend", "end_client", "hang_up", "hold", "lost", "over", "records", "reply", "todo", "waiting",
    )  # fmt: skip

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.todo = True
        """
        Something was decided since the connection last looked: set with every attribute below but `records`, so that
        after most calls this one is all that has to be looked at.
        """
        self.dial = False
        """A backend connection is needed, if there is none."""
        self.hang_up = False
        """The backend connection is of no more use."""
        self.hold = False
        """Do not read from the client: what it sent already has to wait."""
        self.over = False
        """Close the client's connection once everything is sent."""
        self.lost = False
        """Close both connections at once, so that nobody takes what was sent for whole."""
        self.end_client = False
        """Nothing more will be sent to the client: half-close."""
        self.end_backend = False
        """Nothing more will be sent to the backend: half-close."""
        self.reply = b""
        """Bytes for the client that the backend did not send."""
        self.records: list[Record] = []

    @property
    def can_resume(self) -> bool:
        """`resume` has something to do."""
        return False

    @property
    def idle(self) -> bool:
        """Nothing is under way: the connection may be closed without anybody missing anything."""
        return False

    def pace(self, now: float) -> tuple[float, float]:
        """For how many seconds the exchange under way goes on, and how many bytes of bodies moved in each of them."""
        return 0.0, inf

    def from_client(self, data: memoryview, now: float) -> bytes | memoryview:
        """Plaintext of the client -> bytes for the backend."""
        raise NotImplementedError

    def from_backend(self, data: memoryview, now: float) -> bytes | memoryview:
        """Bytes of the backend -> plaintext for the client."""
        raise NotImplementedError

    def resume(self, now: float) -> bytes | memoryview:
        """Go on with what the client sent before it was its turn -> bytes for the backend."""
        raise NotImplementedError

    def client_ended(self, now: float) -> None:
        """The client will send no more, and says so (close_notify)."""
        raise NotImplementedError

    def client_lost(self, now: float, fault: str) -> None:
        """The client is gone, or must go."""
        raise NotImplementedError

    def backend_ended(self, now: float, fault: str) -> bytes:
        """
        The backend's connection ended; `fault` is empty if it did so in order.

        Returns bytes to send on a new connection (with `dial` set) where the request can be repeated.
        """
        raise NotImplementedError

    def backend_failed(self, now: float, status: int, fault: str) -> None:
        """The backend cannot be reached (502) or does not answer (504)."""
        raise NotImplementedError

    def client_late(self, now: float) -> None:
        """The client did not send in time what it owes."""
        self.client_lost(now, "timed out")

    def drain(self) -> None:
        """Let the exchange that is under way, or else the next one, be the last."""

    def undrain(self) -> None:
        """After all, let there be more."""


class RawFlow(Flow):
    """Any byte stream both ways, each direction ending on its own."""

    __slots__ = ("_ends", "_fault", "_received", "_sent", "_started")

    def __init__(self, now: float) -> None:
        super().__init__(Waiting.TUNNEL)
        self.dial = True
        self._started = now
        self._received = 0
        self._sent = 0
        self._ends = 0

    def from_client(self, data: memoryview, now: float) -> memoryview:
        self._received += len(data)
        return data

    def from_backend(self, data: memoryview, now: float) -> memoryview:
        self._sent += len(data)
        return data

    def _finish(self, now: float, fault: str) -> None:
        self.records.append(Record(self._started, now, 0, "", "", self._received, self._sent, fault))

    def _one_end(self, now: float) -> None:
        self._ends += 1
        self.todo = True
        if self._ends == 2:
            self.over = True
            self._finish(now, "")

    def client_ended(self, now: float) -> None:
        self.end_backend = True
        self._one_end(now)

    def backend_ended(self, now: float, fault: str) -> bytes:
        if fault:
            self.client_lost(now, fault)
        else:
            self.end_client = True
            self._one_end(now)
        return b""

    def client_lost(self, now: float, fault: str) -> None:
        if not (self.lost or self.over):
            self.lost = self.todo = True
            self._finish(now, fault)

    def backend_failed(self, now: float, status: int, fault: str) -> None:
        self.client_lost(now, fault)
