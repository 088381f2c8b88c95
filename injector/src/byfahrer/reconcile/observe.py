"""Looks at one target: itself, its service's labels, and its sidecars, at the same time."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from byfahrer import labels
from byfahrer.engine.errors import EngineError, NotFoundError
from byfahrer.engine.interface import Engine
from byfahrer.model import NO_SERVICE, NOTHING, Container, Observed, Service


async def observe(engine: Engine, target_id: str, by_hand: Mapping[str, str] = NOTHING) -> Observed:
    """What is there now. Two calls, as long as one; one more for each sidecar, and for a Swarm task's service."""
    target: Container | None = None
    service: Service | None = NO_SERVICE
    sidecars: list[Container] = []
    errors: list[EngineError] = []

    async def look_at_target() -> None:
        nonlocal target, service
        try:
            target = await _inspect(engine, target_id)
            if target is not None and target.id != target_id:
                target = None  # another container, which has this ID for a name
            if target is not None and target.alive and labels.SWARM_SERVICE in target.labels:
                service = await engine.service(target.labels[labels.SWARM_SERVICE])
        except EngineError as error:
            errors.append(error)

    async def look_for_sidecars() -> None:
        try:
            for each in await engine.containers(f"{labels.TARGET}={target_id}"):
                sidecar = await _inspect(engine, each.id)
                if sidecar is not None and labels.target_of(sidecar) == target_id:
                    sidecars.append(sidecar)
        except EngineError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_at_target)
        tasks.start_soon(look_for_sidecars)
    if errors:
        raise errors[0]
    return Observed(
        target_id=target_id,
        target=target,
        service=service or NO_SERVICE,
        service_unknown=service is None,
        sidecars=tuple(sidecars),
        by_hand=by_hand,
    )


async def _inspect(engine: Engine, container_id: str) -> Container | None:
    try:
        return await engine.inspect(container_id)
    except NotFoundError:
        return None
