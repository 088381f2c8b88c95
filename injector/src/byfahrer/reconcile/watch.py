"""
Finds out that there may be something to do: events, and a full look at every container.

Events are hints and may be lost without notice: the engine drops them for slow readers, forgets them when it restarts,
and a hung one sends none. So everything is listed after each (re)connection, once the subscription stands, and again on
a timer; and a ping that is not answered ends a stream that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from random import uniform
from typing import Any

import anyio
from loguru import logger

from byfahrer import labels
from byfahrer.engine.errors import EngineError
from byfahrer.engine.interface import Engine, EngineInfo, Event, EventStream, Gap
from byfahrer.reconcile import resync
from byfahrer.reconcile.backoff import STEADY, delay
from byfahrer.reconcile.queue import KeyedQueue

RESYNC_INTERVAL = 30.0
"""Seconds: how long a lost event can hide; less by up to a fifth, so that many nodes do not meet."""
PING_INTERVAL = 10.0
"""Seconds; as docker-gen."""
RECONNECT_CAP = 1.0
"""Seconds between tries at most: a local socket costs nothing to try."""
DIE_WAIT = 1.0
"""Seconds from `die` to a look: a restart is over by then, and its target's sidecar is kept."""


class Watch:
    """Puts targets into the queue for as long as it runs."""

    def __init__(
        self,
        engine: Engine,
        queue: KeyedQueue,
        tracks: Callable[[str], bool],
        *,
        on_ready: Callable[[EngineInfo, list[str]], Coroutine[Any, Any, None]],
        resync_interval: float = RESYNC_INTERVAL,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._tracks = tracks
        """Whether a target without any label of ours concerns us: it may have a sidecar made by hand."""
        self._on_ready = on_ready
        self._resync_interval = resync_interval
        self._ping_interval = ping_interval
        self.connected = False
        """Whether a subscription stands, and everything was listed after it."""
        self.last_event = 0.0
        """When the last event came, in seconds since 1970; 0 for never. Likewise the next."""
        self.last_resync = 0.0
        """When everything was listed last."""
        self.events = 0
        """Since the process started; likewise the next."""
        self.gaps = 0
        """How often events came too fast and some were lost."""
        self.reconnects = 0
        """How often the engine was lost, or could not be had."""

    async def run(self) -> None:
        """Watch until cancelled; an engine that is away is waited for."""
        failures, told = 0, ""
        while True:
            begun = anyio.current_time()
            try:
                info = await self._engine.connect()
                async with self._engine.events(info.now) as events:
                    found = await self.resync(urgent=True)
                    told = ""
                    self.connected = True
                    await self._follow(events, partial(self._on_ready, info, found))
                text = f"the event stream of the engine at {self._engine.where} ended"
            except EngineError as error:
                text = str(error)
            finally:
                self.connected = False
            self.reconnects += 1
            # One that ends as soon as it stands is no success.
            failures = 1 if anyio.current_time() - begun > STEADY else failures + 1
            if text != told:
                logger.error("{}; trying again", text[0].upper() + text[1:])
                told = text
            await anyio.sleep(delay(failures, first=0.25, cap=RECONNECT_CAP))

    async def resync(self, *, urgent: bool) -> list[str]:
        """List everything and have it looked at; the targets found."""
        found = resync.targets(await self._engine.containers())
        self.last_resync = time.time()
        for target_id in found:
            self._queue.put(target_id, urgent=urgent)
        return found

    async def _follow(self, events: EventStream, announce: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take events until the stream ends."""
        async with anyio.create_task_group() as tasks:
            # Not waited for: what was found may take its time, and events do not wait.
            tasks.start_soon(announce)
            tasks.start_soon(self._keep_awake, events)
            tasks.start_soon(self._keep_in_sync)
            async for event in events:
                try:
                    await self._take(event)
                except EngineError as error:
                    logger.debug("An event could not be followed: {}", error)
            tasks.cancel_scope.cancel()

    async def _take(self, event: Event | Gap) -> None:
        self.last_event = time.time()
        if isinstance(event, Gap):
            self.gaps += 1
            logger.warning("Events came faster than they could be taken: looking at everything again")
            await self.resync(urgent=True)
            return
        self.events += 1
        if event.kind == "service":
            for task in await self._engine.containers(f"{labels.SWARM_SERVICE}={event.id}"):
                self._queue.put(task.id)
        elif event.kind == "network":
            # Networks go and come with each restart too, between `die` and `start`.
            if self._tracks(event.id):
                self._queue.put(event.id, DIE_WAIT, urgent=False)
        elif event.kind == "container" and event.action != "update":
            target_id = labels.claim(event.labels)
            if target_id is not None:
                self._queue.put(target_id, urgent=False)
            if self._concerns(event.id, event.labels):
                self._queue.put(event.id, DIE_WAIT if event.action == "die" else 0.0)

    def _concerns(self, target_id: str, carried: Mapping[str, str]) -> bool:
        return labels.mentions(carried) or self._tracks(target_id)

    async def _keep_awake(self, events: EventStream) -> None:
        while True:
            await anyio.sleep(self._ping_interval)
            try:
                await self._engine.ping()
            except EngineError as error:
                logger.debug("Closing the event stream: {}", error)
                events.close()
                return

    async def _keep_in_sync(self) -> None:
        while True:
            await anyio.sleep(self._resync_interval * uniform(0.8, 1.0))  # noqa: S311 - jitter, not secrets
            try:
                await self.resync(urgent=False)
            except EngineError as error:
                logger.debug("The resync waits for the next turn: {}", error)
