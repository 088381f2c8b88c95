"""Bounded waits on a state, for tests; no test waits on the clock alone."""

from __future__ import annotations

import time

import anyio


async def until(condition, seconds=10.0):
    """Return when `condition()` holds; AssertionError if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await anyio.sleep(0.002)


def wait_until(condition, seconds=10.0, interval=0.05):
    """The first true value of `condition()`; AssertionError if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {getattr(condition, '__name__', condition)}"
        time.sleep(interval)
    return value
