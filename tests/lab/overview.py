"""A daemon's overview without a daemon: tests set what it knows."""

from __future__ import annotations

from dataclasses import dataclass

from byfahrer.engine.interface import EngineInfo
from byfahrer.overview import Overview
from byfahrer.reconcile.memory import Snapshot, State, TargetState

ENGINE = EngineInfo(name="node", version="27", api_version="1.41", role="none", now="1.0")


@dataclass
class Watch:
    """What the watch counts."""

    connected: bool = True
    last_event: float = 1.5
    last_resync: float = 2.0
    events: int = 3
    gaps: int = 4
    reconnects: int = 5


def target(number, state=State.SERVING, **more):
    return TargetState(
        id=f"t{number}", name=f"n{number}", state=state, sidecar=f"n{number}-proxy", sidecar_id=f"s{number}", **more
    )


def overview(*targets, words=None, actions=None):
    """Of these targets; `words`: what sidecars said, by their ID."""
    made = Overview(
        where="unix:///x", watch=Watch(), snapshot=lambda: Snapshot(targets=targets, actions=actions or {}),
        depth=lambda: 6, engine=ENGINE,
    )  # fmt: skip
    if words:
        made.word_of = words.get
    return made
