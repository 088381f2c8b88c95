"""
What is remembered of targets between two looks: for pace, for people, and for what no single look can show.

Nothing in it decides what a target is to have. Lost with the process, it is made good by the looks that follow.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from byfahrer.model import Container
from byfahrer.reconcile.backoff import Pace


class State(enum.StrEnum):
    """How a target stands, in a word."""

    SERVING = "serving"
    REPLACING = "replacing"
    """One serves, and another is to come in its place."""
    STARTING = "starting"
    FAILING = "failing"
    """It is to have a sidecar and has none that works."""
    REFUSED = "refused"
    """Its labels ask for what cannot be, or may not."""
    NONE = "none"
    """It asks for nothing, or does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """What the injector knows of one target, for people."""

    id: str
    name: str
    state: State
    sidecar: str = ""
    """The name of the one that serves, or is to."""
    sidecar_id: str = ""
    problems: tuple[str, ...] = ()
    """Each a line, as it was told."""
    action: str = ""
    """The last thing done about it: `inject`, `start`, `restart`, `remove` or `rename`."""
    acted_at: float = 0.0
    """When; seconds since 1970."""
    error: str = ""
    """What went wrong at the last look; empty if nothing did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the injector knows, at one moment."""

    targets: tuple[TargetState, ...] = ()
    actions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How often something was done since the start, by what (`inject`, …) and result (`ok` or `failed`)."""


@dataclass(slots=True)
class Joins:
    """
    Which start of the target a sidecar has joined, as far as it was seen.

    Of two starts the engine's clock tells which came first, unless somebody set it back in between. A start of our own
    needs no clock: it came after the look before it, and the target's start in that look was the target's present one.
    Nor does one that came after the last look, where the target had its present start before that look already: without
    that, two injectors would each restart what the other one has started after the clock was set back.
    """

    target_started_at: int = 0
    """At the last look."""
    _before: int = 0
    """The same, before the last look."""
    _known: dict[str, int] = field(default_factory=dict)
    """When each sidecar was started, at the last look."""
    _own: dict[str, int] = field(default_factory=dict)
    """By sidecar: the target's start that our start of it is to have joined."""
    _joined: dict[str, tuple[int, int]] = field(default_factory=dict)

    def started(self, sidecar_id: str, target_started_at: int) -> None:
        """We have started a sidecar whose target was last seen with that start."""
        self._own[sidecar_id] = self.target_started_at = target_started_at

    def look(self, target: Container, sidecars: Iterable[Container]) -> Mapping[str, tuple[int, int]]:
        """Take note of what is there; what is known to have joined what."""
        now = target.started_at
        there = list(sidecars)
        alive = [each for each in there if each.alive]
        joined: dict[str, tuple[int, int]] = {}
        for each in alive:
            seen = self._joined.get(each.id)
            if seen is not None and seen[0] == each.started_at:
                joined[each.id] = seen
            elif each.id in self._own and self._known.get(each.id) != each.started_at:
                # If its target has restarted since, it may have joined either start: another one of ours will tell.
                joined[each.id] = (each.started_at, now if self._own[each.id] == now else 0)
            elif self._before == now and self._known.get(each.id) != each.started_at:
                joined[each.id] = (each.started_at, now)
            elif self.target_started_at > now:
                joined[each.id] = (each.started_at, 0)  # the clock was set back: which came first cannot be known
            elif each.started_at >= now:
                joined[each.id] = (each.started_at, now)
        self._joined = joined
        self._known = {each.id: each.started_at for each in alive}
        self._own = {each.id: self._own[each.id] for each in there if each.id in self._own and each.id not in joined}
        self._before, self.target_started_at = self.target_started_at, now
        return joined


@dataclass(slots=True)
class Memory:
    """Of one target."""

    name: str
    pace: Pace = field(default_factory=Pace)
    """Of the sidecar that is wanted."""
    spare_pace: Pace = field(default_factory=Pace)
    """Of the one that serves until then."""
    joins: Joins = field(default_factory=Joins)
    running: dict[tuple[str, int], float] = field(default_factory=dict)
    """Since when which start of which sidecar has been seen to run, by our clock."""
    begun: dict[str, float] = field(default_factory=dict)
    """When we started a sidecar, until it is seen to run."""
    draining: dict[str, float] = field(default_factory=dict)
    """Sidecars that were told to end, and until when they may take, by our clock."""
    settled: bool = True
    """Whether nothing was done since a look that found nothing to do after somebody had asked for that."""
    asked: bool = False
    """Whether somebody has asked since the last look."""
    relieved: frozenset[tuple[str, int]] = frozenset()
    """The starts of sidecars that know that they are to leave when another one serves."""
    told: tuple[str, ...] = ()
    """Problems that people know of."""
    passing: int = 0
    """How often something passing stood in the way, since there was nothing to do last."""
    trouble: str = ""
    """Why the sidecar that is wanted does not work, until one does."""
    token: str = ""
    """The sidecar that has its token from this process."""
    ended: tuple[int, float] = (0, 0.0)
    """The target's last end that we know of, and since when, by our clock."""
    exit: tuple[str, int] = ("", 0)
    """The sidecar's last exit that people know of: whose, and when."""
    state: State = State.NONE
    sidecar: str = ""
    sidecar_id: str = ""
    action: str = ""
    acted_at: float = 0.0
    error: str = ""
    awaits: str = ""
    """The image that its sidecar is to be made of, while that is being pulled."""

    def saw(self, sidecars: Iterable[Container], now: float) -> None:
        """Take note of which sidecars run, and which do no more."""
        there = list(sidecars)
        starts = [(each.id, each.started_at) for each in there if each.alive]
        self.running = {start: self.running.get(start, self.begun.get(start[0], now)) for start in starts}
        self.begun.clear()
        self.relieved &= self.running.keys()
        self.draining = {each.id: self.draining[each.id] for each in there if each.id in self.draining}

    def runs_for(self, sidecar: Container, now: float) -> float:
        """Seconds for which it has been seen to run."""
        return now - self.running.get((sidecar.id, sidecar.started_at), now)

    def snapshot(self, target_id: str) -> TargetState:
        return TargetState(
            id=target_id,
            name=self.name,
            state=self.state,
            sidecar=self.sidecar,
            sidecar_id=self.sidecar_id,
            problems=self.told,
            action=self.action,
            acted_at=self.acted_at,
            error=self.error,
        )
