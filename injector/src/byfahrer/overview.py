"""
What the daemon knows, for people and for their monitoring: as JSON, as metrics, and whether it is ready. Pure.

Everything is looked up when it is asked for. No token or key can come up. Metrics have no label that a container could
choose: how many there are does not depend on what runs here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from byfahrer import __version__
from byfahrer.authority.report import Report
from byfahrer.engine.interface import EngineInfo
from byfahrer.reconcile.memory import Snapshot, State, TargetState
from byfahrer.reconcile.watch import Watch

Words = Callable[[str], Report | None]
"""What a sidecar, by its ID, said last."""
Sample = tuple[Mapping[str, str], float]


def _no_words(sidecar_id: str) -> Report | None:  # noqa: ARG001 - where there is no authority
    return None


@dataclass(slots=True, kw_only=True)
class Overview:
    """One daemon, as it is now."""

    where: str
    """The engine's address."""
    watch: Watch
    snapshot: Callable[[], Snapshot]
    depth: Callable[[], int]
    """How many targets wait to be looked at, or are being looked at."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """By which targets are judged, as they were given."""
    word_of: Words = _no_words
    engine: EngineInfo | None = field(default=None)
    """As it was when it was connected to last; None before the first full look was over."""

    @property
    def fault(self) -> str:
        """Why targets are not looked after at this moment; empty if they are."""
        if not self.watch.connected:
            return f"the engine at {self.where} is not connected"
        return "" if self.engine else "the first look at everything is not over"

    def status(self) -> dict[str, Any]:
        """For `byfahrer ps`, and for people."""
        now, engine = self.snapshot(), self.engine
        return {
            "version": __version__,
            "ready": not self.fault,
            "fault": self.fault,
            "engine": {
                "connected": self.watch.connected,
                "where": self.where,
                "name": engine.name if engine else "",
                "version": engine.version if engine else "",
                "api_version": engine.api_version if engine else "",
                "role": engine.role if engine else "",
            },
            "flags": dict(self.flags),
            "last_event": _time(self.watch.last_event),
            "last_resync": _time(self.watch.last_resync),
            "events": self.watch.events,
            "event_gaps": self.watch.gaps,
            "reconnects": self.watch.reconnects,
            "queue": self.depth(),
            "actions": [
                {"action": action, "result": result, "count": count}
                for (action, result), count in sorted(now.actions.items())
            ],
            "targets": [self._target(each) for each in sorted(now.targets, key=lambda each: (each.name, each.id))],
        }

    def metrics(self) -> str:
        """For Prometheus."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        now, watch = self.snapshot(), self.watch
        words = [word for each in now.targets if (word := self.word_of(each.sidecar_id)) is not None]
        states = Counter(str(each.state) for each in now.targets)
        yield from _gauge("build_info", "What this is.", [({"version": __version__}, 1)])
        yield from _gauge("engine_up", "1 while the engine is connected.", _one(watch.connected))
        yield from _gauge("ready", "1 while every target is looked after.", _one(not self.fault))
        yield from _gauge("last_event_timestamp_seconds", "When the engine's last event came.", _one(watch.last_event))
        yield from _gauge("last_resync_timestamp_seconds", "When everything was listed.", _one(watch.last_resync))
        yield from _counter("events_total", "Events of the engine that came.", _one(watch.events))
        yield from _counter("event_gaps_total", "How often events came too fast and some were lost.", _one(watch.gaps))
        yield from _counter("engine_losses_total", "How often the engine was lost.", _one(watch.reconnects))
        yield from _gauge("queue_depth", "Targets to be looked at.", _one(self.depth()))
        about = "Targets by how they stand."
        yield from _gauge("targets", about, [({"state": str(each)}, states[str(each)]) for each in State])
        troubled = sum(bool(each.problems or each.error) for each in now.targets)
        yield from _gauge("targets_with_problems", "Targets of which there is something to tell.", _one(troubled))
        done = [({"action": name, "result": result}, count) for (name, result), count in sorted(now.actions.items())]
        yield from _counter("actions_total", "What was done on the engine.", done)
        yield from _gauge("sidecars_reporting", "Sidecars that tell how they are.", _one(len(words)))
        unready = sum(word.ready is False for word in words)
        yield from _gauge("sidecars_unready", "Those that do not serve.", _one(unready))
        bypassed = sum(bool(word.bypass) for word in words)
        yield from _gauge("sidecars_bypassed", "Those whose clients can go round TLS.", _one(bypassed))
        failing = sum(bool(word.failing) for word in words)
        yield from _gauge("sidecars_renewal_failing", "Those whose certificate is not renewed.", _one(failing))

    def _target(self, target: TargetState) -> dict[str, Any]:
        word = self.word_of(target.sidecar_id)
        return {
            "id": target.id,
            "name": target.name,
            "state": str(target.state),
            "sidecar": target.sidecar,
            "sidecar_id": target.sidecar_id,
            "problems": list(target.problems),
            "error": target.error,
            "last_action": target.action,
            "acted_at": _time(target.acted_at),
            "report": _word(word) if word else None,
        }


def _word(word: Report) -> dict[str, Any]:
    return {
        "phase": word.phase,
        "ready": word.ready,
        "fault": word.fault,
        "bypass": list(word.bypass),
        "certificate": {"source": word.source, "not_after": word.not_after, "failing": word.failing},
        "connections": word.connections,
        "requests": word.requests,
    }


def _one(value: float) -> list[Sample]:
    return [({}, value)]


def _gauge(name: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    return _metric(name, "gauge", about, samples)


def _counter(name: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    return _metric(name, "counter", about, samples)


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP byfahrer_{name} {about}"
    yield f"# TYPE byfahrer_{name} {kind}"
    for labels, value in samples:
        marks = ",".join(f'{key}="{text}"' for key, text in labels.items())
        yield f"byfahrer_{name}{{{marks}}} {_number(value)}" if marks else f"byfahrer_{name} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) and not value.is_integer() else f"{int(value)}"


def _time(seconds: float) -> str | None:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}" if seconds else None
