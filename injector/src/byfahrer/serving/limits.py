"""How often somebody may ask, and how often the same is said. Both in bounded memory. Pure but for a clock."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MOST: Final = 10_000
"""Keys remembered: more than an engine has containers. Keys are given to known senders only, so nobody can push others
out of here."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """A token bucket for each key: `burst` times at once, then one more every `every` seconds."""

    def __init__(self, burst: int, every: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._every = every
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> float:
        """0 if it may be done now; else after how many seconds."""
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(self._burst, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        bucket.level = min(self._burst, bucket.level + (now - bucket.at) / self._every)
        bucket.at = now
        if bucket.level < 1:
            return (1 - bucket.level) * self._every
        bucket.level -= 1
        return 0.0


class Seldom:
    """Whether to say something again: once in `every` seconds for each key."""

    def __init__(self, every: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def again(self, key: str) -> int | None:
        """How often it was left unsaid since the last time, if it is to be said now; None if not."""
        now = self._clock()
        at, left_out = self._said.get(key, (now - self._every, 0))
        if now - at < self._every:
            self._said[key] = (at, left_out + 1)
            return None
        self._said[key] = (now, 0)
        self._said.move_to_end(key)
        if len(self._said) > MOST:
            self._said.popitem(last=False)
        return left_out
