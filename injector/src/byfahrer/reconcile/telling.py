"""What people are told of a target: its problems, once each, and why a sidecar that should run does not."""

from __future__ import annotations

from typing import Final

from loguru import logger

from byfahrer.engine.errors import EngineError
from byfahrer.engine.interface import Engine
from byfahrer.model import Container, Observed, Plan, Problem, Start, Status, one_line
from byfahrer.reconcile.backoff import STEADY
from byfahrer.reconcile.memory import Memory, State

PORT_TAKEN: Final = "already in use"
"""What sslterm, and most others, say of a port that somebody has."""


def tell(memory: Memory, found: tuple[str, ...]) -> None:
    """Log problems when they are new; a resync finds the same ones each time."""
    for problem in found:
        if problem not in memory.told:
            logger.error("{}", problem)
    if memory.told and not found:
        logger.info("'{}' has no problem any more", memory.name)
    memory.told = found


def problems(todo: Plan, memory: Memory) -> tuple[str, ...]:
    """What people have to know, as far as it is known now."""
    return (*map(str, todo.problems), *((memory.trouble,) if memory.trouble else ()))


async def exits(engine: Engine, observed: Observed, todo: Plan, memory: Memory) -> None:
    """Say why a sidecar that should run does not, and forgive its past if it ran for long."""
    wanted = {action.sidecar.id: action for action in todo.actions if isinstance(action, Start)}
    for sidecar in observed.sidecars:
        seen = (sidecar.id, sidecar.finished_at)
        # That others go is as it should be.
        if sidecar.status is not Status.EXITED or sidecar.id not in wanted or memory.exit == seen:
            continue
        memory.exit = seen
        for_now = wanted[sidecar.id].for_now
        if sidecar.finished_at - sidecar.started_at > STEADY * 1e9:
            (memory.spare_pace if for_now else memory.pace).steady()
        try:
            words = one_line(await engine.last_words(sidecar.id))
        except EngineError:
            words = ""
        killed = " (the kernel killed it for want of memory)" if sidecar.oom_killed else ""
        told = f"exited with code {sidecar.exit_code}{killed}{f'; its last words: {words}' if words else ''}"
        trouble = "" if for_now else _trouble(sidecar, todo.spare, told, words)
        if trouble:
            memory.trouble = str(Problem(memory.name, trouble))
            tell(memory, (memory.trouble,))
        else:
            logger.warning("Proxy container '{}' {}", sidecar.name, told)


def state(todo: Plan, memory: Memory) -> State:
    """How the target stands, in a word."""
    if todo.serving is not None:
        return State.SERVING
    if todo.spare is not None:
        return State.REPLACING
    if todo.image:
        return State.FAILING if memory.trouble else State.STARTING
    return State.REFUSED if todo.problems else State.NONE


def _trouble(sidecar: Container, spare: Container | None, told: str, words: str) -> str:
    """What people have to know of an exit, beyond that it happened; empty for nothing."""
    stays = f"; '{spare.name}' serves on" if spare is not None else ""
    if PORT_TAKEN in words:
        return f"port conflict: {words}{stays}"
    return f"its new proxy container '{sidecar.name}' {told}{stays}" if spare is not None else ""
