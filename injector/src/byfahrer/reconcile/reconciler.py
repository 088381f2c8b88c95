"""
Looks at one target, plans, and acts. The only module that changes anything on the engine.

It is handed a key and nothing else, and may fail anywhere: whatever was done half is seen by the next look. What a
failure means for people is said once, when it changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loguru import logger

from byfahrer import labels
from byfahrer.engine.errors import ConflictError, EngineError, NotFoundError, UnreachableError
from byfahrer.engine.interface import Engine
from byfahrer.model import (
    NOTHING,
    Container,
    Inject,
    Observed,
    Plan,
    Problem,
    Remove,
    Restart,
    SidecarSpec,
    Start,
    Status,
)
from byfahrer.plan import Policy, fits, plan, sidecar_name
from byfahrer.reconcile import deliver
from byfahrer.reconcile.backoff import STEADY, Pace
from byfahrer.reconcile.foretell import foretold
from byfahrer.reconcile.images import Images, missing
from byfahrer.reconcile.observe import observe
from byfahrer.reconcile.queue import aside

DRAIN = 10
"""Seconds that a sidecar has for requests under way when it is removed from a target that runs on; as docker stop."""


class UnmetError(Exception):
    """A target cannot have its sidecar now; `str()` is what its user has to know. Tried again with back-off."""


class PassingError(Exception):
    """Something else happened at the same moment: nothing that people need to know. Tried again with back-off."""


@dataclass(slots=True)
class _Memory:
    """What is remembered of a target between two looks: for pace and for people, never for deciding what to do."""

    name: str
    pace: Pace = field(default_factory=Pace)
    told: tuple[str, ...] = ()
    """Problems that people know of."""
    token: str = ""
    """The sidecar that has its token from this process."""
    exit: tuple[str, int] = ("", 0)
    """The sidecar's last exit that people know of: whose, and when."""


class Reconciler:
    """Brings one target at a time to what it asks for."""

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        *,
        token: Callable[[str, str], str] | None = None,
        seen: Callable[[Observed], None] | None = None,
        act: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._token = token
        """Makes what a sidecar shows to the authority, from the IDs of target and sidecar."""
        self._seen = seen
        self._act = act
        """Whether anything is done at all, or only said."""
        self._foretold: dict[str, tuple[str, ...]] = {}
        """By target: what was said that would be done."""
        self._clock = clock
        self._images = Images(engine, policy.pull, clock=clock)
        self._memory: dict[str, _Memory] = {}

    def tracks(self, target_id: str) -> bool:
        """Whether this target has been seen with a sidecar, or wanting one."""
        return target_id in self._memory

    async def reconcile(self, target_id: str, by_hand: Mapping[str, str] = NOTHING) -> float | None:
        """Look, plan, act; None, or seconds after which to look again."""
        observed = await observe(self._engine, target_id, by_hand)
        if self._seen:
            self._seen(observed)
        todo = plan(observed, self._policy)
        self._note(observed, todo)
        if not self._act:
            self._foretell(target_id, foretold(todo))
            return None
        starts = [action for action in todo.actions if isinstance(action, Inject | Start | Restart)]
        removals = [action for action in todo.actions if isinstance(action, Remove)]
        for action in starts:
            # Before anything is removed: the old one does not go for one that cannot be.
            if isinstance(action, Inject) and await self._images.provide(action.spec.image):
                return await self.reconcile(target_id, by_hand)  # a pull takes its time: what was seen is old
        for removal in removals:
            await self._remove(removal)
        if observed.target is not None and todo.serving is not None:
            await self._renew_token(todo.serving, observed.target)
        if not starts or observed.target is None:
            return None
        memory = self._memory[target_id]
        await self._look_at_exits(observed, memory)
        wait = memory.pace.wait(observed.target.started_at, self._clock())
        if wait:
            return wait
        memory.pace.tried(self._clock())
        for action in starts:
            await self._start(action, observed.target)
        self._tell(memory, ())
        return None

    def failed(self, target_id: str, error: Exception, wait: float) -> None:
        """Tell people of a failure, once; the queue tries again after `wait` seconds."""
        memory = self._memory.setdefault(target_id, _Memory(target_id[:12]))
        name = memory.name
        if isinstance(error, UnmetError | PassingError | EngineError):
            logger.debug("'{}' is looked at again in {:.1f} s: {}", name, wait, error)
            # An engine that is away is told of once, by the watch, and not for each target.
            if not isinstance(error, PassingError | UnreachableError):
                self._tell(memory, (str(Problem(name, str(error))),))
        else:
            logger.opt(exception=error).error("'{}': a bug of byfahrer; it is looked at again in {:.0f} s", name, wait)

    async def _start(self, action: Inject | Start | Restart, target: Container) -> None:
        """Have a sidecar running. Every failed start leaves a container that is of no use: it is removed."""
        if isinstance(action, Inject):
            sidecar_id, name = await self._create(action), action.name
        else:
            sidecar_id, name = action.sidecar.id, action.sidecar.name
        begun = self._clock()
        try:
            await self._deliver(sidecar_id, action.spec if isinstance(action, Inject) else action.sidecar, target)
            if isinstance(action, Restart):
                logger.info("Restart proxy container '{}': its target has restarted", name)
                await self._engine.restart(sidecar_id)
            else:
                await self._engine.start(sidecar_id)
        except UnreachableError:
            raise
        except EngineError as error:
            await self._engine.remove(sidecar_id)
            now = (await observe(self._engine, target.id)).target
            if now is None or not now.alive:
                logger.debug("'{}' went away while its proxy container was started", target.name)
                return
            if now.started_at != target.started_at:
                raise PassingError("it restarted while its proxy container was started") from error
            if isinstance(action, Start) and isinstance(error, ConflictError):
                raise PassingError("somebody was removing its proxy container just then") from error
            raise UnmetError(f"its proxy container '{name}' did not start: {error}") from error
        logger.debug("Proxy container '{}' started in {:.0f} ms", name, (self._clock() - begun) * 1000)

    async def _renew_token(self, sidecar: Container, target: Container) -> None:
        """
        Put into a sidecar that serves the token by today's key, once for each process of ours.

        Whoever started it may have had another key: with the state folder lost, its certificate would not be renewed.
        """
        memory = self._memory[target.id]
        if self._token is not None and memory.token != sidecar.id and sidecar.status is Status.RUNNING:
            await self._deliver(sidecar.id, sidecar, target)
            memory.token = sidecar.id

    async def _deliver(self, sidecar_id: str, like: SidecarSpec | Container, target: Container) -> None:
        """Put into its volumes what a sidecar needs when it starts; each time, as the last one may have failed here."""
        mounts, user = like.mounts, like.user
        token = self._token(target.id, sidecar_id) if self._token and deliver.wants_token(mounts) else None
        for folder, file in deliver.files(mounts, user, token):
            await self._engine.put_files(sidecar_id, folder, [file])

    async def _create(self, action: Inject) -> str:
        target, spec = action.target, action.spec
        logger.info("Create proxy container '{}' for '{}' from {}", action.name, target.name, spec.image)
        try:
            return await self._engine.create(action.name, target.id, spec, labels.sidecar_labels(target, spec))
        except NotFoundError as error:
            raise UnmetError(missing(spec.image)) from error
        except ConflictError as error:
            await self._settle_name(action)
            raise PassingError(f"the name '{action.name}' was taken for a moment") from error

    async def _settle_name(self, action: Inject) -> None:
        """See who has the name that a sidecar needs; returns if it can be had at the next try."""
        try:
            holder = await self._engine.inspect(action.name)
        except NotFoundError:
            return
        owner_id = labels.target_of(holder)
        if owner_id is None:
            text = f"the name '{action.name}' is taken by container {holder.id[:12]}, which is not ours: rename it"
            raise UnmetError(text)
        if owner_id == action.target.id:
            return  # another injector was faster, or it is going: the next look sees it
        owner = (await observe(self._engine, owner_id)).target
        if owner is None or not owner.alive:
            return  # an orphan, and soon reaped
        # The owner was renamed, and the name it had went to our target.
        await self._engine.rename(holder.id, sidecar_name(owner))
        logger.info("Rename proxy container '{}' to '{}', as its target", action.name, sidecar_name(owner))

    async def _remove(self, action: Remove) -> None:
        logger.info("Remove proxy container '{}': {}", action.sidecar.name, action.why)
        if action.drain and action.sidecar.status is Status.RUNNING:
            try:
                # Others' targets do not wait for the requests of this one, nor for who ignores SIGTERM.
                with aside():
                    await self._engine.stop(action.sidecar.id, DRAIN)
            except (NotFoundError, ConflictError):
                logger.debug("'{}' was gone already", action.sidecar.name)
        await self._engine.remove(action.sidecar.id)

    async def _look_at_exits(self, observed: Observed, memory: _Memory) -> None:
        """Say why a sidecar that should run does not, and forgive its past if it ran for long."""
        for sidecar in observed.sidecars:
            seen = (sidecar.id, sidecar.finished_at)
            if sidecar.status is not Status.EXITED or memory.exit == seen:
                continue
            memory.exit = seen
            if sidecar.finished_at - sidecar.started_at > STEADY * 1e9:
                memory.pace.steady()
            try:
                words = await self._engine.last_words(sidecar.id)
            except EngineError:
                words = ""
            logger.warning(
                "Proxy container '{}' exited with code {}{}",
                sidecar.name,
                sidecar.exit_code,
                f"; its last words: {words}" if words else "",
            )

    def _note(self, observed: Observed, todo: Plan) -> None:
        """Keep what is known of this target, or forget it."""
        key, target = observed.target_id, observed.target
        if target is None:
            self._memory.pop(key, None)
            return
        # Not forgotten while it is down: in a crash loop it is down at every other look.
        if key not in self._memory and not (observed.sidecars or todo.actions or todo.problems):
            return
        memory = self._memory.setdefault(key, _Memory(target.name))
        memory.name = target.name
        if todo.problems or not todo.actions:
            self._tell(memory, tuple(map(str, todo.problems)))
        runs = not todo.actions and any(fits(sidecar, target) for sidecar in observed.sidecars)
        if runs and self._clock() - memory.pace.last > STEADY:
            memory.pace.steady()

    def _foretell(self, target_id: str, actions: tuple[str, ...]) -> None:
        """Say what would be done, when it is new."""
        for action in actions:
            if action not in self._foretold.get(target_id, ()):
                logger.info("Would {}", action)
        self._foretold[target_id] = actions
        if not actions:
            del self._foretold[target_id]

    def _tell(self, memory: _Memory, problems: tuple[str, ...]) -> None:
        """Log problems when they are new; a resync finds the same ones each time."""
        for problem in problems:
            if problem not in memory.told:
                logger.error("{}", problem)
        if memory.told and not problems:
            logger.info("'{}' has no problem any more", memory.name)
        memory.told = problems
