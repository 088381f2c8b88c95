"""
What lies between one injector and the engine in memory: time that calls take, answers that get lost, and sudden death.

A request that was sent is carried out, whatever becomes of who sent it: so each call runs beside its caller, who may be
gone when it takes effect.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import asynccontextmanager

import anyio

from byfahrer.engine.errors import EngineError, UnreachableError

CHANGES = ("create", "start", "restart", "stop", "kill", "remove", "rename")
"""Calls that change what people see; what is put into a sidecar's own volume does not."""
ON_ONE = ("start", "restart", "stop", "kill", "remove", "rename", "put_files")
CALL_TIMEOUT, PING_TIMEOUT = 60.0, 5.0


class Pace:
    """How long calls take. Measured: a start 80 ms, a create 12, others 2; a slow engine takes seconds for anything."""

    TYPICAL = {"start": 0.08, "restart": 0.1, "create": 0.012, "remove": 0.05}  # noqa: RUF012

    def __init__(self, seed):
        self._random = random.Random(seed)
        self.slow = False

    def __call__(self, method):
        if self.slow:
            return self._random.choice((0.05, 0.4, 2.0, 7.0))
        return self.TYPICAL.get(method, 0.002) * self._random.choice((1, 1, 1, 4))

    def drain(self):
        """How long a sidecar takes to end when it is told to; None for longer than it may."""
        return self._random.choice((0.02, 0.3, 0.3, 6.0, None))


class Wire:
    """An engine as one injector has it."""

    where = "memory"

    def __init__(self, world):
        self._world = world
        self._engine = world.engine
        self.dead = False
        """Whether the injector was killed: nothing that it does reaches the engine, and it hears nothing."""

    def __getattr__(self, method):
        async def call(*args, **options):
            return await self._call(method, args, options)

        return call

    @asynccontextmanager
    async def events(self, *args):
        await self._call("ping", (), {})
        async with self._engine.events(*args) as stream:
            yield stream

    async def _call(self, method, args, options):
        if self.dead:
            await anyio.sleep_forever()
        took, done, answer = self._world.pace(method), anyio.Event(), []
        self._world.tasks.start_soon(self._carry_out, method, args, options, took * 0.8, answer, done)
        with anyio.move_on_after(PING_TIMEOUT if method == "ping" else CALL_TIMEOUT):
            await done.wait()
            await anyio.sleep(took * 0.2)
        if self.dead:
            await anyio.sleep_forever()
        if not answer:
            raise UnreachableError("no answer in time")
        if self._world.engine.away or self._world.lost[method] > 0:
            self._world.lost[method] -= 1
            raise UnreachableError("the answer was lost")
        if isinstance(answer[0], BaseException):
            raise answer[0]
        return answer[0]

    async def _carry_out(self, method, args, options, wait, answer, done):
        await anyio.sleep(wait)
        await self._world.awake()
        self._look_out(method, args)
        try:
            answer.append(await getattr(self._engine, method)(*args, **options))
            outcome = answer[0] if isinstance(answer[0], str) else ""
            self._world.changes[method] += 1
        except EngineError as error:
            answer.append(error)
            outcome = repr(error)
        if method in (*CHANGES, "put_files"):
            self._world.note(f"  {method} {' '.join(self._named(each) for each in args[:2])} {self._named(outcome)}")
        self._world.spring(method)
        done.set()

    def _look_out(self, method, args):
        """Nobody's containers but our own are ever touched."""
        touched = self._engine.all.get(args[0]) if method in ON_ONE else None
        if touched is not None and self._world.seen(touched).owner is None:
            self._world.crimes.append(f"{method} of {touched.name}, which is not ours")

    def _named(self, argument):
        """An ID as people read it."""
        text = str(argument)
        return f"{text.lstrip('0')}" if len(text) == 64 else text[:60]


class Lost(Counter):
    """By method: how many of the next answers get lost, though what was asked is carried out."""
