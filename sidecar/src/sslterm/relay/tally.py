"""
What a sidecar serves and has served, counted by each of its processes where all of them can see it.

One process counts in a list. Several have a row each in memory that they share, and each writes to its own row only: a
sum may miss what is being written at this moment, but no count is ever lost. So a limit on the sum can be exceeded by
one for each other process, for as long as it takes them to see it.
"""

from __future__ import annotations

from typing import Final

OPEN: Final = 0
"""Connections that are not closed, calls to others among them."""
ACCEPTED: Final = 1
"""Connections of clients so far."""
REQUESTS: Final = 2
"""Finished exchanges so far; in tcp mode, finished connections."""
REFUSED: Final = 3
"""TLS handshakes that failed so far."""
NO_CERTIFICATE: Final = 4
BAD_CERTIFICATE: Final = 5
EXPIRED: Final = 6
NOT_ALLOWED: Final = 7
BAD_IDENTITY: Final = 8
DENIALS: Final = {
    "no-certificate": NO_CERTIFICATE,
    "bad-certificate": BAD_CERTIFICATE,
    "expired": EXPIRED,
    "not-allowed": NOT_ALLOWED,
    "bad-identity": BAD_IDENTITY,
}
"""Clients that were denied so far, by reason. The first three are mostly found in the handshake: `REFUSED`, too."""
OUTBOUND: Final = 9
"""Calls to others so far, by programs of this namespace."""
OUTBOUND_FAILED: Final = 10
"""Those of them that did not end as they should."""
_WIDTH: Final = 16
"""Numbers in a row: 128 bytes, whole cache lines, so that no process slows down another by counting."""
_NUMBER: Final = 8
"""Bytes of each."""


class Tally:
    """One process's row, `mine`, and the sums over all."""

    def __init__(self, shared: memoryview | None = None, row: int = 0) -> None:
        self._all = None if shared is None else shared.cast("Q")
        self.mine: list[int] | memoryview = [0] * _WIDTH if self._all is None else self._row(self._all, row)

    @staticmethod
    def size(rows: int) -> int:
        """Bytes of memory to share."""
        return rows * _WIDTH * _NUMBER

    @staticmethod
    def _row(numbers: memoryview, row: int) -> memoryview:
        return numbers[row * _WIDTH : (row + 1) * _WIDTH]

    @property
    def shared(self) -> bool:
        """Other processes count, too."""
        return self._all is not None

    def row(self, row: int) -> list[int] | memoryview:
        """What one process counts."""
        return self.mine if self._all is None else self._row(self._all, row)

    def total(self, what: int) -> int:
        """The sum over all processes of `OPEN`, `ACCEPTED`, …"""
        return self.mine[what] if self._all is None else sum(self._all[what::_WIDTH])

    def denied(self) -> dict[str, int]:
        """How many clients were denied so far, for each of `DENIALS`."""
        return {reason: self.total(what) for reason, what in DENIALS.items()}

    def __str__(self) -> str:
        """For people: what was served."""
        requests, connections, refused = (self.total(each) for each in (REQUESTS, ACCEPTED, REFUSED))
        failed = f", {refused} of which failed in the TLS handshake" if refused else ""
        denied = sum(self.denied().values())
        turned_away = f"; {denied} clients were denied" if denied else ""
        outbound = self.total(OUTBOUND)
        calls = f"; {outbound} calls to others, {self.total(OUTBOUND_FAILED)} of which failed" if outbound else ""
        return f"served {requests} requests on {connections} connections{failed}{turned_away}{calls}"
