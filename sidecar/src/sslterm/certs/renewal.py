"""
When a certificate is replaced, and when it is tried again: arithmetic on two clocks, and no waiting.

The wall clock is what clients judge a certificate by, and it jumps; the steady clock does not jump, and stands still
while the machine sleeps. So a renewal is due when either says so.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

_SPREAD: Final = 0.1
"""Of the time to a renewal: sidecars that were started together do not come together for ever."""
_SHORTEST: Final = 1.0
"""Seconds to a renewal, whatever the authority says."""
_LATEST: Final = 0.9
"""Of the life of a certificate: a renewal needs some time, too."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 300.0
_SHARE: Final = 0.1
"""A pause takes no more of what is left than this, so that there are tries to the end."""
_SHORTEST_PAUSE: Final = 0.2
_AFTER_THE_END: Final = 5.0
"""Seconds; a service that clients do not accept any more is worth the trouble."""

_STAGES: Final = (0.75, 0.9, 1.0)
"""Of its life: when it is told again that a certificate is not renewed. The last one is its end."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A certificate's times. `wall` is in seconds since 1970, `steady` since anything."""

    not_after: float
    begun_wall: float
    begun_steady: float
    wait: float
    """Seconds from the beginning to its renewal."""

    @classmethod
    def begin(cls, not_after: float, renew_in: float) -> Lease:
        """One that was issued now."""
        wall = time.time()
        wait = max(min(spread(renew_in, _SPREAD), (not_after - wall) * _LATEST), _SHORTEST)
        return cls(not_after, wall, time.monotonic(), wait)

    def due_in(self) -> float:
        """Seconds to its renewal; none or less if it is due."""
        return self.wait - max(time.time() - self.begun_wall, self.age())

    def age(self) -> float:
        """Seconds since it was issued."""
        return time.monotonic() - self.begun_steady

    def left(self) -> float:
        """Seconds in which clients accept it."""
        return self.not_after - time.time()

    def stage(self) -> int:
        """How far its life has gone: 0, and one more for each of three quarters, nine tenths and all of it."""
        life = self.not_after - self.begun_wall
        gone = 1 - self.left() / life if life > 0 else 1.0
        return sum(gone >= each for each in _STAGES)

    def pause(self, failures: int, retry_after: float = 0.0) -> float:
        """Seconds to the next try after so many in a row that failed, and were answered with `retry_after`."""
        left = self.left()
        most = max(min(_LONGEST_PAUSE, left * _SHARE), _SHORTEST_PAUSE) if left > 0 else _AFTER_THE_END
        return max(spread(min(_FIRST_PAUSE * 2 ** min(failures - 1, 16), most), 0.2), retry_after)


OVER: Final = len(_STAGES)
"""The stage of a certificate that expired."""


def spread(seconds: float, share: float) -> float:
    """`seconds`, or up to `share` of them more or less, at random."""
    return seconds * (1 + share * (int.from_bytes(os.urandom(4)) / 2**31 - 1))
