"""
Looks at one target, plans, and has done what is to be done, at its pace.

It is handed a key and nothing else, and may fail anywhere: whatever was done half is seen by the next look. What a
failure means for people is said once, when it changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import anyio
from loguru import logger

from byfahrer.converge import same_port
from byfahrer.engine.errors import EngineError, PullError, UnreachableError
from byfahrer.engine.interface import Engine
from byfahrer.model import (
    NOTHING,
    Container,
    Inject,
    Observed,
    Plan,
    Problem,
    Remove,
    Rename,
    Restart,
    Start,
    Status,
    one_line,
)
from byfahrer.plan import Policy, own_sidecars, plan
from byfahrer.reconcile import telling
from byfahrer.reconcile.apply import DRAIN, Hands, PassingError, UnmetError
from byfahrer.reconcile.backoff import STEADY
from byfahrer.reconcile.foretell import foretold
from byfahrer.reconcile.images import Had, Images
from byfahrer.reconcile.memory import Memory, Snapshot, State
from byfahrer.reconcile.observe import observe

__all__ = ["DRAIN", "PROOF", "PassingError", "Reconciler", "UnmetError"]

PROOF = 2.0
"""Seconds for which a sidecar runs that works: it exits within half of that where it cannot."""
PROOF_WAIT = 30.0
"""Seconds for one that takes longer. Then people are told, or it gets its turn as any other that runs."""
GLANCE = 1.0
"""Seconds between looks at one that takes its time to end, or to get ready: an event may be lost."""
BACK_WITHIN = 1.0
"""Seconds from a target's end, in which it may be restarting."""
MISSED = 10_000
"""Targets that are remembered as not found; a list shows within half a minute whether one is there after all."""
PASSES = 6
"""How often in a row something passing may stand in the way before people are told: it has lasted 15 seconds then."""

_NO_JOINS: Mapping[str, tuple[int, int]] = {}


def _nobody(container: Container) -> bool:  # noqa: ARG001 - the default of a callback
    return False


def _nothing_said(container: Container) -> bool | None:  # noqa: ARG001 - the default of a callback
    return None


class Reconciler:
    """Brings one target at a time to what it asks for."""

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        *,
        token: Callable[[str, str], str] | None = None,
        seen: Callable[[Observed], None] | None = None,
        silent: Callable[[Container], bool] = _nobody,
        ready: Callable[[Container], bool | None] = _nothing_said,
        act: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._seen = seen
        self._silent = silent
        """Whether a sidecar should have been heard of and was not."""
        self._ready = ready
        """Whether a sidecar says that it serves; None where it says nothing."""
        self._acts = act
        """Whether anything is done, or only said."""
        self._foretold: dict[str, tuple[str, ...]] = {}
        """By target: what was said that would be done."""
        self._clock = clock
        self._wall = wall
        """The time of day, in seconds since 1970, as the engine's are."""
        self._back_within = BACK_WITHIN
        self._images = Images(engine, policy.pull, clock=clock)
        self._memory: dict[str, Memory] = {}
        self._missed: dict[str, None] = {}
        """Targets that the engine did not find at the last look."""
        self._hands = Hands(engine, token, clock)

    async def pull(self, put: Callable[[str], None]) -> None:
        """
        Until cancelled, pull what is missing beside everything else; who waits for it is `put` when that has ended.

        Without this, a look takes as long as the pull.
        """

        def ended(image: str) -> None:
            for key in [key for key, memory in self._memory.items() if memory.awaits == image]:
                put(key)

        async with anyio.create_task_group() as tasks:
            self._images.pull_in(tasks, ended)
            await anyio.sleep_forever()

    def tracks(self, target_id: str) -> bool:
        """Whether this target has been seen with a sidecar, or wanting one."""
        return target_id in self._memory

    def snapshot(self) -> Snapshot:
        """What is known now, for people and for their monitoring."""
        return Snapshot(
            targets=tuple(memory.snapshot(key) for key, memory in self._memory.items()),
            actions=dict(self._hands.counts),
        )

    def settled(self, target_id: str) -> bool:
        """
        Whether nothing was done about this target, or is to be done, since a look that found so after this was asked.

        To have found nothing to do once is not enough: what came of actions may have been undone since, and a list then
        shows what it showed before them.
        """
        # Whoever is in a list all the same was not gone: the engine can say so of one that it is busy with.
        if target_id in self._missed:
            return False
        memory = self._memory.get(target_id)
        if memory is None or memory.settled:
            return True
        memory.asked = True
        return False

    async def reconcile(self, target_id: str, by_hand: Mapping[str, str] = NOTHING) -> float | None:
        """Look, plan, act; None, or seconds after which to look again."""
        observed = await observe(self._engine, target_id, by_hand)
        if self._seen:
            self._seen(observed)
        if wait := self._may_be_back(observed):
            return wait
        observed, todo = await self._plan(observed)
        if not self._acts:
            self._foretell(target_id, foretold(todo))
            return None
        memory, target = self._memory.get(target_id), observed.target
        if memory is None or target is None:
            for action in todo.actions:
                if isinstance(action, Remove):
                    await self._hands.remove(action, None)
            return None
        try:
            again = await self._act(observed, todo, target, memory)
        finally:
            if todo.actions:
                memory.asked = False  # who has asked meanwhile may have a list from before
        memory.error = ""
        return again

    def failed(self, target_id: str, error: Exception, wait: float) -> None:
        """Tell people of a failure, once; the queue tries again after `wait` seconds."""
        memory = self._memory.setdefault(target_id, Memory(target_id[:12]))
        name = memory.name
        if isinstance(error, UnmetError | PassingError | EngineError):
            memory.error = one_line(str(error), 500)
            logger.debug("'{}' is looked at again in {:.1f} s: {}", name, wait, error)
            # An engine that is away is told of once, by the watch, and not for each target.
            if isinstance(error, PassingError):
                memory.passing += 1
                if memory.passing >= PASSES:
                    telling.tell(memory, (str(Problem(name, f"tried again and again: {error}")),))
            elif not isinstance(error, UnreachableError):
                telling.tell(memory, (str(Problem(name, str(error))),))
        else:
            memory.error = "a bug of byfahrer, see its log"
            logger.opt(exception=error).error("'{}': a bug of byfahrer; it is looked at again in {:.0f} s", name, wait)
        if memory.state is State.STARTING:
            memory.state = State.FAILING

    def hurry(self) -> None:
        """From now on wait for no target to come back: there will be nobody to reap its sidecar."""
        self._back_within = 0.0

    def _may_be_back(self, observed: Observed) -> float:
        """
        Seconds for which a target that has just ended may still be restarting; 0 for none.

        A restart is over by then, and its sidecars are kept: the one that serves may be of an image that is gone. Most
        looks at a dead target come after that time anyway, but for those that something else asked for.
        """
        target, memory = observed.target, self._memory.get(observed.target_id)
        if target is None or memory is None or target.alive or not observed.sidecars:
            return 0.0
        if memory.ended[0] != target.finished_at:
            memory.ended = (target.finished_at, self._clock())
        # By both clocks: the engine's may be another, and ours knows only since when we have known.
        ago = max(self._wall() - target.finished_at / 1e9, self._clock() - memory.ended[1])
        return max(0.0, self._back_within - ago)

    async def _plan(self, observed: Observed) -> tuple[Observed, Plan]:
        """What is there, with what only a series of looks can show, and what is to be done about it."""
        target_id, target = observed.target_id, observed.target
        self._missed.pop(target_id, None)
        if target is None:
            self._memory.pop(target_id, None)
            self._missed[target_id] = None
            while len(self._missed) > MISSED:
                del self._missed[next(iter(self._missed))]
            return observed, plan(observed, self._policy)
        # For one without sidecars there is nothing to be known yet.
        if observed.sidecars:
            memory = self._memory.setdefault(target_id, Memory(target.name))
            memory.saw(observed.sidecars, self._clock())
            observed = replace(
                observed,
                joined=memory.joins.look(target, observed.sidecars) if target.alive else _NO_JOINS,
                proven=frozenset(each.id for each in observed.sidecars if self._is_proven(each, memory)),
                awaited_long=frozenset(each.id for each in observed.sidecars if self._is_awaited_long(each, memory)),
                silent=frozenset(each.id for each in observed.sidecars if each.alive and self._silent(each)),
            )
        todo = plan(observed, self._policy)
        if todo.image and own_sidecars(observed, self._policy):
            observed = replace(observed, image_id=await self._engine.image_id(todo.image))
            todo = plan(observed, self._policy)
        self._note(observed, todo, target)
        return observed, todo

    def _is_proven(self, sidecar: Container, memory: Memory) -> bool:
        """Whether it can be relied on: it runs, and for long enough, or says that it is ready."""
        if sidecar.status is not Status.RUNNING or sidecar.id in memory.draining:
            return False
        says = self._ready(sidecar)
        return says is True or memory.runs_for(sidecar, self._clock()) >= (PROOF if says is None else PROOF_WAIT)

    def _is_awaited_long(self, sidecar: Container, memory: Memory) -> bool:
        """Whether the one before it would have left by now, if it could. One that says that it does not serve waits."""
        if sidecar.status is not Status.RUNNING or sidecar.id in memory.draining or self._ready(sidecar) is False:
            return False
        return memory.runs_for(sidecar, self._clock()) >= PROOF_WAIT + (sidecar.stop_timeout or DRAIN)

    async def _act(self, observed: Observed, todo: Plan, target: Container, memory: Memory) -> float | None:
        starts = [action for action in todo.actions if isinstance(action, Inject | Start | Restart)]
        removals = [action for action in todo.actions if isinstance(action, Remove)]
        await telling.exits(self._engine, observed, todo, memory)
        memory.awaits = ""
        for action in starts:
            # Name and port can be held once only, so the old one goes first: but not for one that cannot be yet.
            if isinstance(action, Inject):
                try:
                    had = await self._images.provide(action.spec.image)
                except PullError:
                    await self._do_without(observed, target, memory)
                    raise
                if had is Had.CAME:
                    return await self.reconcile(target.id, observed.by_hand)  # a pull takes its time: look again
                if had is Had.COMING:
                    memory.awaits = action.spec.image
                    return await self._do_without(observed, target, memory)
                if removals and (wait := memory.pace.wait(target.started_at, self._clock())):
                    return wait
        waits = [await self._hands.remove(removal, memory) for removal in removals]
        if any(waits):
            return min(max(waits), GLANCE)
        serving = todo.serving or todo.spare
        if serving is not None:
            await self._hands.renew_token(serving, target, memory)
        waits = [await self._start_in_time(action, target, memory, todo) for action in starts]
        for rename in [action for action in todo.actions if isinstance(action, Rename)]:
            await self._hands.rename(rename, target, memory)
            telling.tell(memory, telling.problems(todo, memory))
        if todo.awaited is not None and todo.spare is not None:
            waits.append(await self._change_over(todo.spare, todo.awaited, memory))
        return min((wait for wait in waits if wait), default=None)

    async def _do_without(self, observed: Observed, target: Container, memory: Memory) -> float | None:
        """What can be done about a target whose sidecar cannot be made now: the one that it had serves on."""
        todo = plan(replace(observed, image_missing=True), self._policy)
        for action in todo.actions:
            if isinstance(action, Remove) and not action.drain:
                await self._hands.remove(action, memory)
        starts = [each for each in todo.actions if isinstance(each, Start | Restart)]
        waits = [await self._start_in_time(action, target, memory, todo) for action in starts]
        return min((wait for wait in waits if wait), default=None)

    async def _change_over(self, spare: Container, awaited: Container, memory: Memory) -> float:
        """Have the one that serves leave in time; seconds until the next look."""
        since = memory.runs_for(awaited, self._clock())
        if not same_port(spare, awaited):
            return PROOF - since if since < PROOF else GLANCE
        if spare.status is Status.RUNNING:
            await self._hands.relieve(spare, memory)
        if since < PROOF_WAIT + (awaited.stop_timeout or DRAIN):
            return PROOF
        text = f"its new proxy container '{awaited.name}' runs and does not serve; '{spare.name}' serves on"
        memory.trouble = str(Problem(memory.name, text))
        telling.tell(memory, (memory.trouble,))
        return STEADY

    async def _start_in_time(
        self, action: Inject | Start | Restart, target: Container, memory: Memory, todo: Plan
    ) -> float:
        """Start it, or say after how many seconds that may be; 0 if nothing has to be waited for."""
        for_now = not isinstance(action, Inject) and action.for_now
        pace = memory.spare_pace if for_now else memory.pace
        wait = pace.wait(target.started_at, self._clock())
        if wait:
            return wait
        pace.tried(self._clock())
        await self._hands.start(action, target, memory)
        telling.tell(memory, telling.problems(todo, memory))
        # Whether it works shows soon.
        return PROOF if memory.trouble or todo.spare is not None else 0.0

    def _note(self, observed: Observed, todo: Plan, target: Container) -> None:
        """Keep what is known of this target."""
        key = observed.target_id
        # Not forgotten while it is down: in a crash loop it is down at every other look.
        if key not in self._memory and not (observed.sidecars or todo.actions or todo.problems):
            return
        memory = self._memory.setdefault(key, Memory(target.name))
        memory.name = target.name
        idle = not todo.actions and todo.awaited is None
        memory.settled, memory.asked = idle and (memory.settled or memory.asked), False
        works = todo.serving is not None and todo.serving.id in observed.proven
        if works or not todo.image:
            memory.trouble = ""
        # Whether an action mends what people were told of, or can be done at all, is known when it has succeeded.
        if todo.problems or not todo.actions:
            memory.passing = 0
            telling.tell(memory, telling.problems(todo, memory))
        if todo.serving is not None and self._clock() - memory.pace.last > STEADY:
            memory.pace.steady()
        if todo.spare is not None and todo.spare.id in observed.proven:
            memory.spare_pace.steady()
        shown = todo.serving or todo.spare or todo.awaited
        memory.sidecar, memory.sidecar_id = (shown.name, shown.id) if shown else ("", "")
        memory.state = telling.state(todo, memory)

    def _foretell(self, target_id: str, actions: tuple[str, ...]) -> None:
        """Say what would be done, when it is new."""
        for action in actions:
            if action not in self._foretold.get(target_id, ()):
                logger.info("Would {}", action)
        self._foretold[target_id] = actions
        if not actions:
            del self._foretold[target_id]
