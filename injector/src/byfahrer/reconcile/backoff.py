"""How long to wait before trying again. Time is an argument, never read here."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST, CAP = 1.0, 60.0
"""Seconds: a failure is often over at once."""
QUICK = 3
"""Failures after which people may wait for us: four seconds from one try to the next are enough then."""
PATIENCE = 7
"""Tries at that pace: what is over within half a minute is made good within 5 s of it."""
STEADY = 10.0
"""Seconds after which a sidecar that ran is not one that crashes at its start; the engine uses the same."""

_random = random.Random()  # noqa: S311 - jitter, not secrets


def delay(failures: int, *, first: float = FIRST, cap: float = CAP, patience: int = PATIENCE) -> float:
    """
    Seconds after so many failures in a row: doubled each time, but after `QUICK` of them the same `patience` times.

    A fifth is random, so that many do not meet.
    """
    held = min(max(failures - QUICK, 0), patience)
    seconds: float = min(cap, first * 2.0 ** min(max(failures - 1 - held, 0), 16))
    return seconds * _random.uniform(0.8, 1.0)


@dataclass(slots=True)
class Pace:
    """
    When one target's sidecar may be started again: once a second at most, and ever less often while it crashes.

    What the engine reports as success counts too: a sidecar whose port is taken starts well each time, and exits.
    """

    target_started_at: int = 0
    last: float = float("-inf")
    tries: int = 0
    """In a row, in the same life of the target, without the sidecar having run steadily."""
    not_before: float = float("-inf")

    def wait(self, target_started_at: int, now: float) -> float:
        """Seconds until a start may be tried; 0 for now."""
        if target_started_at != self.target_started_at:
            self.target_started_at, self.tries = target_started_at, 0
            self.not_before = self.last + FIRST
        return max(0.0, self.not_before - now)

    def tried(self, now: float) -> None:
        self.tries += 1
        self.last = now
        self.not_before = now + max(FIRST, delay(self.tries))

    def steady(self) -> None:
        """It ran long enough: the next start is the first again."""
        self.tries = 0
        self.not_before = self.last + FIRST
