"""
When to order, when to renew, when to try again: numbers in, numbers out, all in seconds since 1970.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_PAUSE: Final = 60.0
_LONGEST_PAUSE: Final = 86400.0
_LONGEST_UNREACHED: Final = 3600.0
"""A server that was away is asked again within the hour: it has no failure to count against us."""
_MOST_FAILURES: Final = 5
_HOUR: Final = 3600.0
"""Let's Encrypt lets five validations of a name fail in an hour."""

_JITTER: Final = 0.05
"""Part of a certificate's life: many that were issued together are not to be renewed together."""
_EARLIEST_QUESTION: Final = 60.0
_LATEST_QUESTION: Final = 86400.0


class BackOff:
    """How long to wait after orders that failed."""

    def __init__(self, failures: Sequence[float] = ()) -> None:
        self.failures = list(failures)
        """When orders failed that the server took, the latest last: as many as its limit allows in an hour."""
        self.count = 0
        """Failures in a row."""
        self.next = 0.0
        """When to try again."""
        self._until = 0.0

    def failed(self, now: float, after: float, *, reached: bool) -> None:
        """An order failed; the server asks for `after` seconds of rest."""
        self.count += 1
        if reached:
            self.failures = [*self.failures, now][-_MOST_FAILURES:]
        self._until = now + min(after, _LONGEST_PAUSE)
        pause = _FIRST_PAUSE * 2.0 ** min(self.count - 1, 16)
        self.next = max(now + min(pause, _LONGEST_PAUSE if reached else _LONGEST_UNREACHED), self.soonest)

    def succeeded(self) -> None:
        """Forget what failed."""
        self.failures, self.count, self.next, self._until = [], 0, 0.0, 0.0

    @property
    def soonest(self) -> float:
        """When the server's limits allow another try, even for somebody who asks for one."""
        full = len(self.failures) == _MOST_FAILURES
        return max(self._until, self.failures[0] + _HOUR if full else 0.0)


def renewal(not_before: float, not_after: float, chance: float) -> float:
    """When one third of a certificate's life is left, or somewhat before; `chance`: a number from 0 to 1."""
    life = not_after - not_before
    return not_after - life / 3 - life * _JITTER * chance


def within(start: float, end: float, chance: float) -> float:
    """A time in the window that a server suggests (RFC 9773, section 4.2)."""
    return start + max(end - start, 0.0) * chance


def next_question(now: float, ask_in: float) -> float:
    """When to ask the server for the window again, which says itself in how many seconds (section 4.3)."""
    return now + min(max(ask_in, _EARLIEST_QUESTION), _LATEST_QUESTION)
