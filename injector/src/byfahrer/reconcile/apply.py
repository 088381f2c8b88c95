"""
Carries out actions: the only module that changes anything on the engine.

It may fail anywhere: whatever was done half is seen by the next look.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from secrets import token_hex

from loguru import logger

from byfahrer import labels
from byfahrer.converge import NEXT, sidecar_name
from byfahrer.engine.errors import ConflictError, EngineError, NotFoundError, RejectedError, UnreachableError
from byfahrer.engine.interface import Engine
from byfahrer.model import Container, Inject, Remove, Rename, Restart, SidecarSpec, Start, Status
from byfahrer.reconcile import deliver
from byfahrer.reconcile.images import missing
from byfahrer.reconcile.memory import Memory
from byfahrer.reconcile.observe import observe
from byfahrer.spec import LONGEST_DRAIN, SPARE_TIME

DRAIN = 10
"""Seconds that a sidecar has for requests under way when it is removed from a target that runs on; as docker stop."""


class UnmetError(Exception):
    """A target cannot have its sidecar now; `str()` is what its user has to know. Tried again with back-off."""


class PassingError(Exception):
    """Something else happened at the same moment: nothing that people need to know. Tried again with back-off."""


def _some_name(target: Container) -> str:
    """A name for a sidecar that nobody can have taken in advance; it gets its own one when that is free."""
    return f"{sidecar_name(target)}{NEXT}-{token_hex(3)}"


class Hands:
    """What is done about targets, one action at a time, and how often."""

    def __init__(
        self, engine: Engine, token: Callable[[str, str], str] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._token = token
        """Makes what a sidecar shows to the authority, from the IDs of target and sidecar."""
        self._clock = clock
        self.counts: Counter[tuple[str, str]] = Counter()
        """By action and result."""

    async def start(self, action: Inject | Start | Restart, target: Container, memory: Memory) -> None:
        """
        Have a sidecar running. Every failed start leaves a container that is of no use: it is removed.

        But not the one that only serves until another does: that one could not be made again.
        """
        with self._counted(type(action).__name__.lower(), memory):
            if isinstance(action, Inject):
                sidecar_id, action = await self._create(action)
            else:
                sidecar_id = action.sidecar.id
            if await self._start(sidecar_id, action, target):
                memory.joins.started(sidecar_id, target.started_at)
                memory.begun[sidecar_id] = self._clock()
                memory.token = sidecar_id

    async def _start(self, sidecar_id: str, action: Inject | Start | Restart, target: Container) -> bool:
        """Whether it runs; False where its target went away."""
        name = action.name if isinstance(action, Inject) else action.sidecar.name
        begun = self._clock()
        try:
            await self.deliver(sidecar_id, action.spec if isinstance(action, Inject) else action.sidecar, target)
            if isinstance(action, Restart):
                logger.info("Restart proxy container '{}': {}", name, action.why)
                await self._engine.restart(sidecar_id)
            else:
                await self._engine.start(sidecar_id)
        except UnreachableError:
            raise
        except EngineError as error:
            if isinstance(action, Inject) or not action.for_now:
                await self._engine.remove(sidecar_id)
            now = (await observe(self._engine, target.id)).target
            if now is None or not now.alive:
                logger.debug("'{}' went away while its proxy container was started", target.name)
                return False
            if now.started_at != target.started_at:
                raise PassingError("it restarted while its proxy container was started") from error
            if not isinstance(action, Inject) and isinstance(error, ConflictError | NotFoundError):
                raise PassingError("somebody was removing its proxy container just then") from error
            raise UnmetError(f"its proxy container '{name}' did not start: {error}") from error
        logger.debug("Proxy container '{}' started in {:.0f} ms", name, (self._clock() - begun) * 1000)
        return True

    async def renew_token(self, sidecar: Container, target: Container, memory: Memory) -> None:
        """
        Put into a sidecar that serves the token by today's key, once for each process of ours.

        Whoever started it may have had another key: with the state folder lost, its certificate would not be renewed.
        """
        if self._token is not None and memory.token != sidecar.id and sidecar.status is Status.RUNNING:
            await self.deliver(sidecar.id, sidecar, target)
            memory.token = sidecar.id

    async def deliver(self, sidecar_id: str, like: SidecarSpec | Container, target: Container) -> None:
        """Put into its volumes what a sidecar needs when it starts; each time, as the last one may have failed here."""
        mounts, user = like.mounts, like.user
        token = self._token(target.id, sidecar_id) if self._token and deliver.wants_token(mounts) else None
        for folder, file in deliver.files(mounts, user, token):
            await self._engine.put_files(sidecar_id, folder, [file])

    async def remove(self, action: Remove, memory: Memory | None) -> float:
        """
        Have a sidecar gone; seconds for which it may still finish what is under way, 0 if it is gone.

        It is not waited for here: its target may need us meanwhile. Whoever looks again sees whether it has ended.
        """
        sidecar = action.sidecar
        if action.drain and memory is not None and sidecar.status is Status.RUNNING:
            if sidecar.id not in memory.draining:
                logger.info("Remove proxy container '{}': {}", sidecar.name, action.why)
                own = DRAIN if action.brief or sidecar.stop_timeout is None else sidecar.stop_timeout
                grace = min(own, LONGEST_DRAIN + SPARE_TIME)
                try:
                    await self._engine.kill(sidecar.id, sidecar.stop_signal or "SIGTERM")
                except (NotFoundError, ConflictError):
                    logger.debug("'{}' was gone already", sidecar.name)
                    grace = 0
                memory.draining[sidecar.id] = self._clock() + grace
            left = memory.draining[sidecar.id] - self._clock()
            if left > 0:
                return left
        elif memory is None or sidecar.id not in memory.draining:
            logger.info("Remove proxy container '{}': {}", sidecar.name, action.why)
        with self._counted("remove", memory):
            await self._engine.remove(sidecar.id)
        return 0.0

    async def relieve(self, sidecar: Container, memory: Memory) -> None:
        """Have a sidecar leave as soon as it sees its successor listen. It may be told any number of times."""
        start = (sidecar.id, sidecar.started_at)
        if start not in memory.relieved:
            with suppress(NotFoundError, ConflictError):
                await self._engine.kill(sidecar.id, sidecar.labels[labels.HAND_OVER])
                memory.relieved |= {start}

    async def rename(self, action: Rename, target: Container, memory: Memory) -> None:
        with self._counted("rename", memory):
            try:
                await self._engine.rename(action.sidecar.id, action.name)
            except ConflictError as error:
                holder = await self._settle_name(action.name, target.id)
                raise PassingError(f"the name '{action.name}' was taken for a moment{holder}") from error
            logger.debug("Proxy container '{}' is '{}' from now on", action.sidecar.name, action.name)

    async def _create(self, action: Inject, *, last: bool = False) -> tuple[str, Inject]:
        """Have one made; its ID, and how it was made: under another name, where a stranger has the first one."""
        target, spec = action.target, action.spec
        beside = f", beside '{action.beside.name}'" if action.beside else ""
        logger.info("Create proxy container '{}' for '{}' from {}{}", action.name, target.name, spec.image, beside)
        try:
            made = await self._engine.create(action.name, target.id, spec, labels.sidecar_labels(target, spec))
        except NotFoundError as error:
            raise UnmetError(missing(spec.image)) from error
        except RejectedError as error:
            raise UnmetError(f"its proxy container '{action.name}' cannot be made: {error}") from error
        except ConflictError as error:
            try:
                holder = await self._settle_name(action.name, target.id)
            except UnmetError as taken:
                if action.beside is None or last:
                    raise
                # Whoever may name containers could keep an update away for ever. It gets its own name in the end.
                logger.warning("'{}': {}", target.name, taken)
                return await self._create(replace(action, name=_some_name(target)), last=True)
            raise PassingError(f"the name '{action.name}' was taken for a moment{holder}") from error
        return made, action

    async def _settle_name(self, name: str, target_id: str) -> str:
        """See who has the name that a sidecar needs; returns who, in words, if it should be free at the next try."""
        try:
            holder = await self._engine.inspect(name)
        except NotFoundError:
            return ""
        owner_id = labels.target_of(holder)
        if owner_id is None:
            text = f"the name '{name}' is taken by container {holder.id[:12]}, which is not ours: rename it"
            raise UnmetError(text)
        who = f", by container {holder.id[:12]}"
        if owner_id == target_id:
            return who  # another injector was faster, or it is going: the next look sees it
        owner = (await observe(self._engine, owner_id)).target
        if owner is None or not owner.alive:
            return who  # an orphan, and soon reaped, if it is ours to reap
        # The owner was renamed, and the name it had went to our target. Two that swapped names block each other.
        wanted = sidecar_name(owner)
        try:
            await self._engine.rename(holder.id, wanted)
        except ConflictError:
            wanted = _some_name(owner)
            await self._engine.rename(holder.id, wanted)
        logger.info("Rename proxy container '{}' to '{}', as its target", name, wanted)
        return ""

    @contextmanager
    def _counted(self, kind: str, memory: Memory | None) -> Iterator[None]:
        result = "failed"
        try:
            yield
            result = "ok"
        finally:
            self.counts[kind, result] += 1
            if memory is not None:
                memory.action, memory.acted_at = kind, time.time()
