"""
The model: real watch, queue and reconciler, one or two of each, on an engine in memory, in virtual time.

A world carries out steps (`lab.promise`) and then is made whole: the engine is there, answers, and tells; what was lost
meanwhile stays lost. From then on the promise must come true by itself, and then nothing be
done.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import anyio

from byfahrer import settings
from byfahrer.engine.errors import EngineError
from byfahrer.labels import wish_by_hand
from byfahrer.model import Container
from byfahrer.reconcile import backoff
from byfahrer.reconcile.reconciler import PassingError, Reconciler, UnmetError
from byfahrer.reconcile.watch import RESYNC_INTERVAL
from lab import virtual
from lab.daemon import Daemon
from lab.happenings import Happenings
from lab.memory_engine import MemoryEngine
from lab.promise import IMAGE, Seen, promise
from lab.wire import CHANGES, Lost, Pace, Wire

SETTLE = 2 * backoff.CAP + RESYNC_INTERVAL + 30.0
"""Seconds: whoever failed many times waits for a minute, and its pace for another; a drain, and a slow call."""
QUIET = 2 * RESYNC_INTERVAL + 5.0
SPELL = 2.5
"""Seconds for which events go well, or do not."""
EPOCH = 1_700_000_000


class Kept(NamedTuple):
    """How it went well."""

    seconds: float
    """From when everything worked again."""
    acts: int
    """Calls by which injectors had changed something until then, or tried to."""


class BrokenPromiseError(AssertionError):
    """What was promised, and is not so."""


class Model(Happenings):
    """A world in memory, and who watches over it."""

    def __init__(self, tasks, seed=0, *, unruly=False):
        super().__init__()
        self.engine = MemoryEngine((IMAGE, "evil/x"))
        self.engine.clock = self.now
        self.engine.began = self._began
        self.engine.told = self._told
        self.engine.lasts = True
        self.engine.deliver = self._deliver
        self.tasks = tasks
        self.pace = Pace(seed)
        self.lost = Lost()
        self.unruly = unruly
        """Whether events are lost, come twice, late, and in another order."""
        self.daemons: list[Daemon] = []
        self.policy = settings.policy()
        self.jumped = 0
        """Seconds by which the engine's clock was set; and whether it ever was set back."""
        self.set_back = False
        self.changes: Counter[str] = Counter()
        self.crimes: list[str] = []
        self.story: list[str] = []
        self._seed = seed
        self._random = random.Random(seed)
        self._deliver_now = MemoryEngine.deliver.__get__(self.engine)
        self._traps: list = []
        self.acts = 0
        self._awake = anyio.Event()
        self._awake.set()
        self._broken_image = False
        self._image_id = self.engine.images[IMAGE]
        self._under_way = 0

    # What is seen.

    def seen(self, container: Container) -> Seen:
        here = (container.id, container.started_at)
        if container.network_mode.startswith("container:"):
            here = self.engine.namespaces.get(container.id, ("", 0))
        return Seen(
            id=container.id, name=container.name, status=container.status.value, labels=container.labels,
            joined=container.network_mode, namespace=f"{here[0]}@{here[1]}" if container.alive and here[0] else "",
            image_id=container.image_id, user=container.user, mode=container.env.get("SSLTERM_MODE"),
            unhealthy=container.health == "unhealthy",
        )  # fmt: skip

    def broken(self) -> list[str]:
        seen = [self.seen(each) for each in self.engine.all.values()]
        image_id = self.engine.images.get(IMAGE, "")
        wrong = promise(seen, self.wishes(), image_id, self.policy.sidecar_user)
        for stranger_id, how in self.strangers.items():
            found = self.engine.all.get(stranger_id)
            if found is None or f"{found.name} {found.status} {found.started_at}" != how:
                wrong.append(f"a stranger was {how}, and is {found}")
        return wrong + self.crimes

    def note(self, text):
        self.story.append(f"{anyio.current_time():9.3f} {text}")

    # Running it.

    def perform(self, step):
        if step.at:
            number, _, method = step.at.rpartition(" ")
            self._traps.append([int(number or 1), method, step])
        else:
            self.note(repr(step))
            self.do(step)

    def spring(self, method):
        """An injector's call was carried out: whoever waited for that acts, before the injector hears of it."""
        self.acts += method in CHANGES
        for trap in list(self._traps):
            if trap[1] in (method, "call") or (trap[1] == "change" and method in CHANGES):
                trap[0] -= 1
                if not trap[0]:
                    self._traps.remove(trap)
                    self.note(repr(trap[2]))
                    self.do(trap[2])

    async def awake(self):
        while not self._awake.is_set():
            await self._awake.wait()

    def make_whole(self):
        """Whatever is broken works again; what was lost stays lost."""
        self.note("everything works again")
        self._traps.clear()
        self.lost.clear()
        self.engine.broken.clear()
        self.unruly = self.engine.away = self.engine.deaf = self.pace.slow = self._broken_image = False
        self._awake.set()
        self.engine.images[IMAGE] = self._image_id
        if not self.daemons:
            self.start_injector()

    async def settle(self) -> float:
        """Seconds until the promise holds for good, with nothing left to do; BrokenPromiseError."""
        begun = anyio.current_time()
        held = await self._holds_within(SETTLE)
        await anyio.sleep(QUIET)
        await self._holds_within(0)
        before = self._changed()
        owners = {owner for each in self.engine.all.values() if (owner := self.seen(each).owner)}
        for daemon in self.daemons:
            for key in sorted(owners | set(self.kinds)):
                with suppress(UnmetError):  # a stranger has the name
                    await daemon.reconciler.reconcile(key)
        await anyio.sleep(5)
        await self._holds_within(0)
        if before != self._changed():
            raise BrokenPromiseError(f"changed, with nothing to do: {before} -> {self._changed()}")
        return held - begun

    def _changed(self):
        return {method: self.changes[method] for method in CHANGES}

    async def _holds_within(self, seconds):
        deadline = anyio.current_time() + seconds
        while self._under_way or (wrong := self.broken()):
            if not self._under_way and anyio.current_time() >= deadline:
                self.note(f"broken: {wrong}")
                raise BrokenPromiseError("; ".join(wrong))
            await anyio.sleep(0.5)
        return anyio.current_time()

    def end(self):
        for daemon in self.daemons:
            daemon.kill()

    def start_injector(self, user=""):
        if user:
            self.policy = settings.policy(sidecar_user=user)
        self.daemons.append(Daemon(self, self.policy))
        self.tasks.start_soon(self.daemons[-1].run)

    def inject(self, key):
        self.tasks.start_soon(self._inject, key)

    async def _inject(self, key):
        reconciler = Reconciler(Wire(self), self.policy, clock=anyio.current_time)
        try:
            await reconciler.reconcile(key, by_hand=wish_by_hand(IMAGE, {}))
        except (UnmetError, PassingError, EngineError) as error:
            self.note(f"  inject: {error}")

    def now(self):
        return int((EPOCH + anyio.current_time() + self.jumped) * 1e9)

    def _deliver(self, stream, event):
        for wait in self._waits() if self.unruly else (0.0,):
            if wait:
                self._later(wait, self._deliver_now, stream, event)
            else:
                self._deliver_now(stream, event)

    def _waits(self):
        """After how long an event comes, as often as it comes; for some seconds at a time, all are lost."""
        spell = random.Random(f"{self._seed} {anyio.current_time() // SPELL}").choice(["lost", "lost", "late", "fair"])
        return {"lost": (), "late": self._random.choice([(), (0.0, 0.7), (2.5,)]), "fair": (0.0,)}[spell]


def check(steps, seed=0, *, unruly=False, tell=None) -> Kept:
    """Carry out steps, make the world whole, and see the promise come true."""
    # The injector's own jitter is part of it.
    before = random.getstate()
    random.seed(seed)
    backoff._random.seed(seed)
    try:
        answer = virtual.run(_check, steps, seed, unruly, tell)
    finally:
        random.setstate(before)
    if isinstance(answer, Exception):
        raise answer
    return answer


async def _check(steps, seed, unruly, tell):
    async with anyio.create_task_group() as tasks:
        model = Model(tasks, seed, unruly=unruly)
        try:
            model.start_injector()
            for step in steps:
                model.perform(step)
                await anyio.sleep(step.wait)
            model.make_whole()
            acts = model.acts
            answer = Kept(await model.settle(), acts)
        except BrokenPromiseError as error:
            answer = error
        if tell:
            tell("\n".join(model.story))
        model.end()
        tasks.cancel_scope.cancel()
    return answer


def shrunk(steps, seed, *, unruly):
    """Steps of these without which nothing breaks any more; given that with all of them it does."""
    left, number = list(steps), 0
    while number < len(left):
        fewer = left[:number] + left[number + 1 :]
        try:
            check(fewer, seed, unruly=unruly)
            number += 1
        except BrokenPromiseError:
            left, number = fewer, 0
    return left
