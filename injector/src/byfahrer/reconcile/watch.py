"""
Finds out that there may be something to do: events, and a list of all containers.

Events are hints and may be lost without notice: the engine drops them for slow readers, forgets them when it restarts,
and a hung one sends none. So everything is looked at after each (re)connection, once the subscription stands. A list
shows what has changed on a timer, and when images or services change or events were lost. A ping that is not answered
ends a stream that hangs; and so does a list that shows what a silent stream should have told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from random import uniform
from typing import Any

import anyio
from anyio.abc import TaskGroup
from loguru import logger

from byfahrer import labels
from byfahrer.engine.errors import EngineError
from byfahrer.engine.interface import Engine, EngineInfo, Event, EventStream, Gap
from byfahrer.plan import Policy
from byfahrer.reconcile import resync
from byfahrer.reconcile.backoff import STEADY, delay
from byfahrer.reconcile.queue import KeyedQueue

RESYNC_INTERVAL = 30.0
"""Seconds: how long a lost event can hide; less by up to a fifth, so that many nodes do not meet."""
GATHER = 0.2
"""Seconds from an event that calls for a list to the list: a build or a deployment makes several at once."""
PING_INTERVAL = 8.0
"""Seconds. With the time that an answer may take, a hung engine is noticed within 15."""
TELLS_WITHIN = 1.0
"""Seconds from a change to its event, which comes within a few milliseconds."""
RECONNECT_CAP = 1.0
"""Seconds between tries at most: a local socket costs nothing to try."""
DIE_WAIT = 1.0
"""Seconds from `die` to a look: a restart is over by then, and its target's sidecar is kept."""
UNHEALTHY = "health_status: unhealthy"


class Watch:
    """Puts targets into the queue for as long as it runs."""

    def __init__(
        self,
        engine: Engine,
        queue: KeyedQueue,
        policy: Policy,
        *,
        tracks: Callable[[str], bool],
        settled: Callable[[str], bool],
        on_ready: Callable[[EngineInfo, list[str]], Coroutine[Any, Any, None]],
        on_stopping: Callable[[str, str], Coroutine[Any, Any, None]],
        all_services: bool = False,
        resync_interval: float = RESYNC_INTERVAL,
        ping_interval: float = PING_INTERVAL,
    ) -> None:
        self._engine = engine
        self._queue = queue
        self._policy = policy
        self._tracks = tracks
        """Whether a target without any label of ours concerns us: it may have a sidecar made by hand."""
        self._settled = settled
        """Whether the last look at a target found nothing to do."""
        self._on_ready = on_ready
        self._on_stopping = on_stopping
        """Called at once with a target's ID and the signal that it was sent."""
        self._all_services = all_services
        """Whether services are read even where no task of theirs is: other nodes want to know them."""
        self._resync_interval = resync_interval
        self._ping_interval = ping_interval
        self._marks = resync.Marks(policy)
        self._services = resync.NO_SERVICES
        self._told_elsewhere = False
        self._list_soon = anyio.Event()
        self._images_changed = False
        self.connected = False
        """Whether a subscription stands, and everything was listed after it."""
        self.last_event = 0.0
        """When the last event came, in seconds since 1970; 0 for never. Likewise the next."""
        self.last_resync = 0.0
        """When everything was listed last."""
        self.events = 0
        """Since the process started; likewise the next."""
        self.gaps = 0
        """How often events were lost: they came too fast, or not at all."""
        self.reconnects = 0
        """How often the engine was lost, or could not be had."""

    async def run(self) -> None:
        """Watch until cancelled; an engine that is away is waited for."""
        failures, told = 0, ""
        while True:
            begun = anyio.current_time()
            try:
                info = await self._engine.connect()
                async with self._engine.events(info.now, [label for label, _ in self._policy.only_labels]) as events:
                    found = await self.look_at_everything()
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

    def list_soon(self) -> None:
        """Have what has changed looked at: something that no event of the engine's tells of is another."""
        self._told_elsewhere = True
        self._list_soon.set()

    async def look_at_everything(self) -> list[str]:
        """Have every target looked at, whatever was known of it; those there are."""
        self._marks.forget()
        await self.resync(urgent=True)
        return list(self._marks)

    async def resync(self, *, urgent: bool = False) -> list[str]:
        """List everything, and have what changed looked at: these targets."""
        # Before the list: what is done from now on, it may not show.
        restless = [target_id for target_id in self._marks if not self._settled(target_id)]
        listed = await self._engine.containers()
        if self._all_services or resync.tasks(listed):
            try:
                self._services = await self._engine.services()
            except EngineError as error:  # what they were is the better guess
                logger.debug("The services could not be read: {}", error)
        changed = self._marks.changed(listed, self._services)
        self.last_resync = time.time()
        for target_id in changed:
            self._queue.put(target_id, urgent=urgent)
        for target_id in [*restless, *self._marks.unnamed]:
            self._queue.put(target_id, urgent=False)
        return changed

    async def _follow(self, events: EventStream, announce: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Take events until the stream ends."""
        async with anyio.create_task_group() as tasks:
            # Not waited for: what was found may take its time, and events do not wait.
            tasks.start_soon(announce)
            tasks.start_soon(self._keep_awake, events)
            tasks.start_soon(self._keep_in_sync, events)
            async for event in events:
                self._take(event, tasks)
            tasks.cancel_scope.cancel()

    def _take(self, event: Event | Gap, tasks: TaskGroup) -> None:
        """Never waits: the next event may be the one that is in a hurry."""
        self.last_event = time.time()
        if isinstance(event, Gap):
            logger.warning("Events came faster than they could be taken: listing what has changed")
            self.gaps += 1
            self._list_soon.set()
            return
        self.events += 1
        if event.kind == "service":
            self._list_soon.set()
        elif event.kind == "image":
            self._images_changed = True
            self._list_soon.set()
        elif event.kind == "network":
            # Networks go and come with each restart too, between `die` and `start`.
            if self._tracks(event.id):
                self._queue.put(event.id, DIE_WAIT, urgent=False)
        elif event.kind == "container":
            self._take_from_container(event, tasks)

    def _take_from_container(self, event: Event, tasks: TaskGroup) -> None:
        covered = resync.may_cover(self._policy, event.labels)
        concerned = (covered and labels.mentions(event.labels)) or self._tracks(event.id)
        if event.action == "kill":
            # Nothing has ended yet.
            if concerned:
                tasks.start_soon(self._on_stopping, event.id, event.signal)
            return
        if event.action == "update" or (event.action.startswith("health_status") and event.action != UNHEALTHY):
            return
        target_id = labels.claim(event.labels)
        if target_id is not None and (covered or self._tracks(target_id)):
            self._queue.put(target_id, urgent=False)
        # A target's own health is no business of its sidecar.
        if concerned and event.action != UNHEALTHY:
            self._queue.put(event.id, DIE_WAIT if event.action == "die" else 0.0)

    async def _keep_awake(self, events: EventStream) -> None:
        while True:
            await anyio.sleep(self._ping_interval)
            try:
                await self._engine.ping()
            except EngineError as error:
                logger.debug("Closing the event stream: {}", error)
                events.close()
                return

    async def _keep_in_sync(self, events: EventStream) -> None:
        """List when an event asks for it, and on a timer."""
        seen = self.events
        while True:
            with anyio.move_on_after(self._resync_interval * uniform(0.8, 1.0)):  # noqa: S311 - jitter, not secrets
                await self._list_soon.wait()
                await anyio.sleep(GATHER)
            self._list_soon = anyio.Event()
            if self._images_changed:
                # Whose sidecar's image lost its name shows in the list, for as long; who waits for an image does not.
                self._images_changed = False
                for target_id in self._queue.failing():
                    self._queue.put(target_id)
            try:
                changed = await self.resync()
            except EngineError as error:
                logger.debug("The resync waits for the next turn: {}", error)
                continue
            if self._told_elsewhere:  # no event was to be expected
                self._told_elsewhere, seen = False, self.events
                continue
            if changed and self.events == seen:
                await anyio.sleep(TELLS_WITHIN)
            if changed and self.events == seen:
                logger.warning("No event told of what changed: opening the event stream anew")
                self.gaps += 1
                events.close()
                return
            seen = self.events
