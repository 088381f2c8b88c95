"""
A queue of keys: serial for each key, parallel across keys, and every key in it once.

`Schedule` decides what is due, without a clock; `KeyedQueue` runs it on anyio. A key that is put while it is handled is
handled once more afterwards, since what the handler saw may be older than the reason to put it. A key that failed waits
longer each time; only an urgent reason (its target itself changed) cuts that wait short, so that the traces of our own
attempts cannot turn into a busy loop.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import anyio
from anyio import CancelScope

from byfahrer.reconcile.backoff import delay

GRACE = 3.0
"""Seconds for what is under way when the program is told to stop: a create and its start belong together."""

Handler = Callable[[str], Awaitable[float | None]]
"""Looks at a key: None for done, or seconds until the next look. An exception is a failure: again, with back-off."""


@dataclass(slots=True)
class Schedule:
    """What is due when. Scans are linear: there are as many keys as containers that changed in this moment."""

    due: dict[str, float] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)
    failures: dict[str, int] = field(default_factory=dict)
    _urgent: set[str] = field(default_factory=set)

    def put(self, key: str, at: float, *, urgent: bool) -> None:
        """Have `key` handled at `at`, or earlier if it is due earlier."""
        if not urgent and self.failures.get(key) and key in self.due:
            return
        self.due[key] = min(at, self.due.get(key, at))
        if urgent:
            self._urgent.add(key)

    def take(self, now: float) -> str | None:
        """The key that is due longest and not being handled; it is active until `done` or `failed`."""
        ready = [key for key, at in self.due.items() if at <= now and key not in self.active]
        if not ready:
            return None
        key = min(ready, key=self.due.__getitem__)
        del self.due[key]
        self._urgent.discard(key)
        self.active.add(key)
        return key

    def next_due(self) -> float | None:
        return min((at for key, at in self.due.items() if key not in self.active), default=None)

    def done(self, key: str, again_at: float | None = None) -> None:
        self.active.discard(key)
        self.failures.pop(key, None)
        if again_at is not None:
            self.put(key, again_at, urgent=False)

    def failed(self, key: str, now: float) -> float:
        """Have it handled again later; the seconds until then."""
        self.active.discard(key)
        self.failures[key] = self.failures.get(key, 0) + 1
        wait = delay(self.failures[key])
        if key not in self._urgent:
            self.due[key] = now + wait
        return wait


class KeyedQueue:
    """Keys to look at, and the workers that do."""

    def __init__(
        self,
        handler: Handler,
        on_failure: Callable[[str, Exception, float], None],
        *,
        workers: int = 8,
        clock: Callable[[], float] = time.monotonic,
        on_finish: Callable[[], None] = lambda: None,
    ) -> None:
        self._handler = handler
        self._on_finish = on_finish
        """Called when no key will be handled a second time."""
        self._on_failure = on_failure
        self._workers = workers
        self._clock = clock
        self._schedule = Schedule()
        self._changed = anyio.Event()
        self._scopes: dict[str, CancelScope] = {}
        self._awaited: list[tuple[set[str], anyio.Event]] = []

    def put(self, key: str, wait: float = 0.0, *, urgent: bool = True) -> None:
        self._schedule.put(key, self._clock() + wait, urgent=urgent)
        self._changed.set()

    @property
    def depth(self) -> int:
        """How many keys wait, or are being handled."""
        return len(self._schedule.due.keys() | self._schedule.active)

    def pending(self, key: str) -> bool:
        """Whether it is still to be handled, now or later, or being handled."""
        return key in self._schedule.due or key in self._schedule.active

    def failing(self) -> list[str]:
        """The keys that could not be handled last time, and wait for the next."""
        return list(self._schedule.failures)

    async def handled(self, keys: Iterable[str]) -> None:
        """Wait until each of these, put before, has been handled once, well or badly."""
        left = {key for key in keys if key in self._schedule.due or key in self._schedule.active}
        if left:
            event = anyio.Event()
            self._awaited.append((left, event))
            await event.wait()

    async def finish(self) -> None:
        """Handle at once what was put for later, but for what failed before; return when that is done."""
        self._on_finish()
        keys = [key for key in self._schedule.due if not self._schedule.failures.get(key)]
        for key in keys:
            self.put(key)
        await self.handled(keys)

    async def run(self) -> None:
        """Handle keys until cancelled; what is under way then may still finish, for a moment."""
        async with anyio.create_task_group() as tasks:
            try:
                while True:
                    self._changed = anyio.Event()
                    now = self._clock()
                    while self._has_room and (key := self._schedule.take(now)) is not None:
                        self._scopes[key] = CancelScope(shield=True)
                        tasks.start_soon(self._handle, key)
                    due = self._schedule.next_due() if self._has_room else None
                    with anyio.move_on_after(None if due is None else max(0.0, due - self._clock())):
                        await self._changed.wait()
            finally:
                with anyio.move_on_after(GRACE, shield=True):
                    while self._scopes:
                        self._changed = anyio.Event()
                        await self._changed.wait()
                for scope in self._scopes.values():
                    scope.cancel()

    @property
    def _has_room(self) -> bool:
        return len(self._scopes) < self._workers

    async def _handle(self, key: str) -> None:
        try:
            with self._scopes[key]:
                again = await self._handler(key)
                self._schedule.done(key, None if again is None else self._clock() + again)
        except Exception as error:  # noqa: BLE001 - one target's trouble, even a bug, must not end the service of others
            self._on_failure(key, error, self._schedule.failed(key, self._clock()))
        finally:
            del self._scopes[key]
            self._changed.set()
            for left, event in self._awaited:
                left.discard(key)
                if not left:
                    event.set()
            self._awaited = [(left, event) for left, event in self._awaited if left]
