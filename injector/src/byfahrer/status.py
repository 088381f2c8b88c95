"""What `byfahrer ps` shows: every target that has a sidecar or should have one, and why it has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import anyio

from byfahrer import labels
from byfahrer.converge import fits
from byfahrer.engine.errors import EngineError
from byfahrer.engine.interface import Engine
from byfahrer.model import NOTHING, Container, Inject, Observed, Status, one_line
from byfahrer.plan import Policy, own_sidecars, plan
from byfahrer.reconcile import resync
from byfahrer.reconcile.observe import observe

Told = Mapping[str, Mapping[str, Any]]
NOTHING_TOLD: Told = {}

HEADINGS = ("TARGET", "SIDECAR", "STATE", "FRONTEND -> BACKEND", "SINCE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One target and its sidecar."""

    target: str
    target_id: str
    sidecar: str = ""
    sidecar_id: str = ""
    image: str = ""
    state: str
    """
    `running`, `waiting` (for its target to listen), `unhealthy`, `refused`, `missing`, `orphan`, `stale` (its target
    has restarted), or the engine's word for it.
    """
    reason: str = ""
    """Why it waits, where the daemon knows."""
    frontend: str = ""
    backend: str = ""
    since: int = 0
    """Nanoseconds since 1970."""
    manual: bool = False
    certificate: str = ""
    """`valid`, `expired`, or `failing: ` and why it is not renewed, where the authority knows."""
    bypass: tuple[str, ...] = ()
    """Where clients can go round TLS, as the sidecar reports."""
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        when = datetime.fromtimestamp(self.since / 1e9, UTC).isoformat(timespec="seconds")
        return asdict(self) | {"since": when if self.since else None}

    def cells(self, now: float) -> tuple[str, ...]:
        # An orphan's target is named by a label, addresses by an environment: anything may be in them.
        first = (one_line(self.target, 100), self.sidecar or "-")
        if self.problems:
            return (*first, one_line(f"{self.state}: {'; '.join(self.problems)}"))
        if self.reason:
            return (*first, one_line(f"{self.state}: {self.reason}"))
        addresses = one_line(f"{self.frontend} -> {self.backend}", 200) if self.frontend else "-"
        word = self.certificate.partition(":")[0]
        state = f"{self.state}, certificate {word}" if word in ("failing", "expired") else self.state
        if self.bypass:
            state += f", bypass {self.bypass[0]}{', …' if self.bypass[1:] else ''}"
        return (*first, one_line(state, 100), addresses, _ago(now - self.since / 1e9) if self.since else "-")


async def rows(
    engine: Engine, policy: Policy, certificates: Mapping[str, str] = NOTHING, told: Told = NOTHING_TOLD
) -> list[Row]:
    """
    Everything there is to show now, by target.

    `certificates`: what is known of them, by the sidecar's ID; `told`: what the daemon says of targets, by their ID.
    """
    observed: list[Observed] = []
    words: dict[str, str] = {}

    async def look(target_id: str) -> None:
        found = await observe(engine, target_id)
        observed.append(found)
        for sidecar in found.sidecars:
            if sidecar.status is Status.EXITED:
                with suppress(EngineError):
                    words[sidecar.id] = await engine.last_words(sidecar.id)

    async with anyio.create_task_group() as tasks:
        for target_id in resync.targets(await engine.containers()):
            tasks.start_soon(look, target_id)
    found = [
        _with(
            replace(row, certificate=certificates.get(row.sidecar_id, "")),
            told.get(row.target_id, {}),
            words.get(row.sidecar_id, ""),
        )
        for each in observed
        for row in rows_of(each, policy)
    ]
    return sorted(found, key=lambda row: (row.target, row.target_id, row.sidecar))


def told(answer: object) -> Told:
    """The targets in what the daemon's socket answered, by their ID; whatever else it is, nothing is told."""
    targets = answer.get("targets") if isinstance(answer, dict) else None
    there = [each for each in targets if isinstance(each, dict)] if isinstance(targets, list) else []
    return {each["id"]: each for each in there if isinstance(each.get("id"), str)}


def _with(row: Row, told: Mapping[str, Any], words: str) -> Row:
    """`row` with what the daemon knows, and the last words of a sidecar that does not run."""
    report = told.get("report") if told.get("sidecar_id") == row.sidecar_id else None
    problems = [*row.problems]
    if row.state == "running" and isinstance(report, dict):
        row = replace(row, bypass=_texts(report.get("bypass")))
        if report.get("phase") == "waiting":
            fault = report.get("fault")
            reason = one_line(fault.removeprefix("waiting").lstrip(": "), 500) if isinstance(fault, str) else ""
            row = replace(row, state="waiting", reason=reason)
        elif report.get("ready") is False and report.get("phase") == "serving":
            row = replace(row, state="unhealthy")
            problems.append(one_line(str(report.get("fault") or "it is not ready")))
    # The one that serves has no part in what keeps its target from another one, but people have to know of it.
    problems += reasons(row.target, told)
    if words and not any(words in each for each in problems):
        problems.append(f"its last words: {one_line(words, 300)}")
    return replace(row, problems=tuple(dict.fromkeys(problems)))


def reasons(target: str, told: Mapping[str, Any]) -> list[str]:
    """The problems that the daemon tells of a target, without its name."""
    return [text.removeprefix(f"'{target}': ") for text in _texts(told.get("problems"))]


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one_line(each, 500) for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def rows_of(observed: Observed, policy: Policy) -> Iterator[Row]:
    """The rows of one target; none if it neither has nor wants a sidecar."""
    target = observed.target
    todo = plan(observed, policy)
    problems = tuple(problem.text for problem in todo.problems)
    for sidecar in own_sidecars(observed, policy):
        front, back = labels.addresses(sidecar.env)
        yield Row(
            target=target.name if target else sidecar.labels.get(labels.TARGET_NAME, ""),
            target_id=observed.target_id,
            sidecar=sidecar.name,
            sidecar_id=sidecar.id,
            image=sidecar.image,
            state=_state(sidecar, target),
            frontend=front,
            backend=back,
            since=sidecar.started_at if sidecar.status is Status.RUNNING else sidecar.finished_at,
            manual=bool(labels.wish_of(sidecar)),
            problems=problems,
        )
    if target is not None and not observed.sidecars:
        if problems:
            yield Row(target=target.name, target_id=target.id, state="refused", problems=problems)
        elif any(isinstance(action, Inject) for action in todo.actions):
            yield Row(target=target.name, target_id=target.id, state="missing")


def table(found: Iterable[Row], now: float) -> str:
    """The rows under their headings."""
    return aligned([HEADINGS, *(row.cells(now) for row in found)])


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """In columns. The last cell of a line may be a sentence, and makes no column wider."""
    columns = zip_longest(*(line[:-1] for line in lines), fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    padded = ([cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)] for line in lines)
    return "\n".join("  ".join([*cells, line[-1]]) for cells, line in zip(padded, lines, strict=True))


def _state(sidecar: Container, target: Container | None) -> str:
    if target is None or not target.alive:
        return "orphan"
    if sidecar.status is Status.RUNNING:
        if not fits(sidecar, target, {}):
            return "stale"
        return "unhealthy" if sidecar.health == "unhealthy" else "running"
    return f"exited ({sidecar.exit_code})" if sidecar.status is Status.EXITED else str(sidecar.status)


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds / size)}{unit} ago"
    return f"{max(0, int(seconds))}s ago"
