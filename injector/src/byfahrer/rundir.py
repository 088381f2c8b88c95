"""
Where our own folders are for the engine, so that sidecars can have the one with the authority's socket too.

In a container, our own paths mean nothing to the engine: but it says itself what is mounted there.
"""

from __future__ import annotations

import re
from pathlib import Path

from byfahrer.engine.errors import NotFoundError
from byfahrer.engine.interface import Engine
from byfahrer.model import Container, Mount
from byfahrer.spec import AUTHORITY_AT

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


class NotSharedError(Exception):
    """Sidecars cannot have this folder; `str()` says why, and what to do about it."""


async def shared(engine: Engine, run_dir: Path, own_id: str) -> Mount:
    """`run_dir` as sidecars get it. NotSharedError, or what the engine raises."""
    if not own_id:
        if engine.where.startswith("unix:"):
            return Mount(kind="bind", source=str(run_dir), destination=AUTHORITY_AT)
        raise NotSharedError(f"the engine at {engine.where} may be on another machine, which has not our {run_dir}")
    try:
        own = await engine.inspect(own_id)
    except NotFoundError:
        raise NotSharedError(f"the engine at {engine.where} does not know the container that byfahrer is in") from None
    mount = _mounted(own, run_dir)
    if mount is None or mount.kind not in ("bind", "volume") or not mount.writable:
        raise NotSharedError(f"{run_dir} is no volume of container {own.name}: give it one (-v byfahrer-run:{run_dir})")
    return Mount(kind=mount.kind, source=mount.source, destination=AUTHORITY_AT)


async def lasts(engine: Engine, folder: Path, own_id: str) -> bool:
    """Whether what is in this folder outlives the container that we are in, if we are in one."""
    if not own_id:
        return True
    mount = _mounted(await engine.inspect(own_id), folder)
    return mount is not None and not (mount.kind == "volume" and _ANONYMOUS.fullmatch(mount.source))


def _mounted(own: Container, folder: Path) -> Mount | None:
    return next((mount for mount in own.mounts if Path(mount.destination) == folder), None)
