"""
Virtual time: an event loop whose clock jumps to the next timer whenever nothing else is left to do.

A minute of back-off passes in no time, and everything happens in the same order each time. Nothing outside of the loop
can be waited for: no thread, no socket. Whoever waits for what can never happen is told so at once.
"""

from __future__ import annotations

import asyncio
import selectors

import anyio


class StuckError(Exception):
    """Nothing is left that could ever happen, and somebody waits for it."""


class _Jump(selectors.SelectSelector):
    """Lets time pass instead of waiting."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise StuckError("everybody waits, and for nothing that is due")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self):
        return self._jump.now


def run(function, *args):
    """As anyio.run, in virtual time; `anyio.current_time()` tells it."""
    return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
