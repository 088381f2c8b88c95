"""
What `byfahrer doctor` finds out about the engine and its containers, and what to do about it.

Checks are functions that return findings; none of them changes anything. What is on this machine is `folders`'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import anyio

from byfahrer import __version__, labels, status
from byfahrer.checks import api, clock, confinement, named, ports, swarm
from byfahrer.engine.errors import EngineError, NotFoundError, RejectedError
from byfahrer.engine.interface import Engine, EngineInfo
from byfahrer.finding import OK, PROBLEM, WARNING, Finding
from byfahrer.model import Container, Inject, Observed, SidecarSpec, Status, Summary, one_line
from byfahrer.plan import Policy, Pull, own_sidecars, plan
from byfahrer.reconcile import resync
from byfahrer.reconcile.images import missing
from byfahrer.reconcile.observe import observe

_TITLE: Final = "org.opencontainers.image.title"
_MOST_NAMED: Final = 5
NOBODY: Final = "0" * 64
"""An ID that no container has."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is on the engine."""

    observed: tuple[Observed, ...]
    rows: tuple[status.Row, ...]
    strays: tuple[Container, ...]
    """Containers that say they are sidecars of ours and are none."""


async def examine(
    engine: Engine, info: EngineInfo, policy: Policy, *, now: float, told: status.Told | None = None
) -> list[Finding]:
    """
    Everything that the engine can be asked about.

    `now`: our clock when `info` came; `told`: what the daemon says of targets, None where none answers.
    """
    scene = await look(engine, policy)
    return [
        *api(info),
        *await rights(engine),
        *confinement(info, in_container=bool(policy.own_id), authority=policy.authority is not None),
        *clock(info, now),
        *swarm(info, len(await engine.services()) if info.role == "worker" else 0),
        *await images(engine, wanted(scene.observed, policy), policy.pull, told or {}),
        *await targets(engine, scene, told),
        *ports(wanted(scene.observed, policy)),
        *unasked(scene.observed, policy),
        *leftovers(scene),
        *rivals(await engine.containers(), policy.own_id, answers=told is not None),
    ]


async def look(engine: Engine, policy: Policy) -> Scene:
    """Everything on the engine that concerns us."""
    listed = await engine.containers()
    observed: list[Observed] = []
    strays: list[Container] = []

    async def see(target_id: str) -> None:
        observed.append(await observe(engine, target_id))

    async def doubt(container_id: str) -> None:
        try:
            found = await engine.inspect(container_id)
        except NotFoundError:
            return
        if labels.target_of(found) is None:
            strays.append(found)

    async with anyio.create_task_group() as tasks:
        for target_id in resync.targets(listed):
            tasks.start_soon(see, target_id)
        for each in listed:
            if labels.claim(each.labels) and policy.covers(each.labels):
                tasks.start_soon(doubt, each.id)
    observed.sort(key=lambda each: (each.target.name if each.target else "", each.target_id))
    rows = [row for each in observed for row in status.rows_of(each, policy)]
    return Scene(tuple(observed), tuple(rows), tuple(sorted(strays, key=lambda each: each.name)))


def wanted(observed: Iterable[Observed], policy: Policy) -> list[tuple[Container, SidecarSpec]]:
    """Targets, and what sidecars they are to have."""
    alone = [replace(each, sidecars=(), by_hand=_by_hand(each)) for each in observed]
    actions = [action for each in alone for action in plan(each, policy).actions]
    return [(action.target, action.spec) for action in actions if isinstance(action, Inject)]


def _by_hand(observed: Observed) -> Mapping[str, str]:
    return next((wish for each in observed.sidecars if (wish := labels.wish_of(each))), observed.by_hand)


async def rights(engine: Engine) -> list[Finding]:
    """Whether we may act there, or look only: starting what does not exist tells, and changes nothing."""
    try:
        await engine.start(NOBODY)
    except NotFoundError:
        return [Finding("rights", OK, "may look and act")]
    except RejectedError as error:
        if error.status in (401, 403, 405):
            text = (
                f"may look only ({error.status}): enough for run --observe; else see docs/privileges.md for what to let"
            )
            return [Finding("rights", WARNING, f"{text} through")]
        return [Finding("rights", PROBLEM, f"cannot act: {error}")]
    except EngineError as error:
        return [Finding("rights", PROBLEM, f"cannot act: {error}")]
    return [Finding("rights", PROBLEM, "the engine says that it started a container that cannot be there")]


async def images(
    engine: Engine, found: Iterable[tuple[Container, SidecarSpec]], pull: Pull, told: status.Told
) -> list[Finding]:
    """Whether the images of sidecars are there, or will be; not again where the daemon tells that they are not."""
    users: dict[str, list[str]] = {}
    for target, spec in found:
        names = users.setdefault(spec.image, [])
        if not any(repr(spec.image) in text for text in status.reasons(target.name, told.get(target.id, {}))):
            names.append(target.name)
    findings = []
    for image, names in sorted(users.items()):
        if not names:
            continue
        if await engine.image_id(image) is None:
            text = f"{missing(image)}; it is wanted for {named(names)}"
            level = PROBLEM if pull is Pull.NEVER else WARNING
            findings.append(
                Finding("images", level, text if level is PROBLEM else f"{text}; byfahrer run tries to pull it")
            )
        else:
            findings.append(Finding("images", OK, f"{image} is here, for {named(names)}"))
    if not users and await engine.image_id("sslterm") is None:
        findings.append(
            Finding("images", WARNING, "sslterm is not on this engine: build or pull it before it is asked for")
        )
    return findings


async def targets(engine: Engine, scene: Scene, told: status.Told | None) -> list[Finding]:
    """Who asks for a sidecar, and has none or one that does not serve."""
    known = told or {}
    findings = []
    served = 0
    for row in scene.rows:
        name = one_line(row.target, 100)
        why = _why(row, known.get(row.target_id, {}))
        if why and (row.problems or row.state in ("running", "missing")):
            has = f"keeps '{row.sidecar}' as it is" if row.sidecar else "gets no sidecar"
            findings.append(Finding("targets", PROBLEM, f"'{name}' {has}: {why}"))
        elif row.state == "running":
            served += 1
        elif row.state == "missing" and told is None:
            findings.append(
                Finding("targets", PROBLEM, f"'{name}' asks for a sidecar and has none: start byfahrer run")
            )
        elif row.state == "missing":
            text = f"'{name}' asks for a sidecar and has none yet, and byfahrer does not say why: see its log"
            findings.append(Finding("targets", WARNING, text))
        elif row.state == "stale":
            text = f"'{row.sidecar}' is in a namespace that its target has left: byfahrer run restarts it"
            findings.append(Finding("targets", WARNING, text))
        elif row.state != "orphan":
            reason = f"; {why}" if why else await _last_words(engine, row.sidecar_id)
            findings.append(
                Finding("targets", PROBLEM, f"'{row.sidecar}' of '{name}' does not serve: {row.state}{reason}")
            )
    shown = {row.target_id for row in scene.rows}
    for target_id, each in known.items():
        if each.get("error") and target_id not in shown:
            findings.append(Finding("targets", PROBLEM, f"'{one_line(str(each.get('name')), 100)}': {each['error']}"))
    return findings or [Finding("targets", OK, f"{served} served, nobody waits")]


def _why(row: status.Row, told: Mapping[str, Any]) -> str:
    """What is wrong about a target, by its labels or as the daemon tells; each once."""
    texts = [*row.problems, *status.reasons(row.target, told)]
    if (error := str(told.get("error") or "")) and not any(error in text for text in texts):
        texts.append(error)
    return "; ".join(dict.fromkeys(texts))


async def _last_words(engine: Engine, sidecar_id: str) -> str:
    try:
        words = await engine.last_words(sidecar_id)
    except EngineError:
        return ""
    return f"; its last words: {words}" if words else ""


def unasked(observed: Iterable[Observed], policy: Policy) -> Iterator[Finding]:
    """Whoever has labels of ours, and not the one that asks for a sidecar."""
    for each in observed:
        target = each.target
        if target is None or target.id == policy.own_id or labels.target_of(target) or not target.alive:
            continue
        found = labels.collect(target.labels, each.service.labels, target.inherited)
        others = [annotation.label for name, annotation in sorted(found.items()) if name != labels.ENABLE]
        covered = policy.covers({**each.service.labels, **target.labels})
        lone = others and labels.PROXY_IMAGE not in found and covered and not own_sidecars(each, policy)
        if lone and not plan(each, policy).problems:  # which are told already
            asking = f"{labels.SHORT}{labels.PROXY_IMAGE}, which asks for a sidecar"
            yield Finding("labels", WARNING, f"'{target.name}' has {named(others)}, but no {asking}")


def rivals(listed: Iterable[Summary], own_id: str, *, answers: bool) -> Iterator[Finding]:
    """
    Two daemons with different volumes replace each other's sidecars for ever.

    `answers`: the daemon beside this command does, in this container or on this host; else one of the others is it.
    """
    there = (each for each in listed if each.labels.get(_TITLE) == "byfahrer" and each.status is Status.RUNNING)
    others = [each for each in there if each.id != own_id]
    if len(others) > (0 if answers else 1):
        names = ", ".join(f"'{one_line(each.name, 60)}'" for each in others[:_MOST_NAMED])
        text = f"other containers of byfahrer run here: {names}; only one of them may be a daemon, stop the others"
        yield Finding("leftovers", WARNING, text)


def leftovers(scene: Scene) -> Iterator[Finding]:
    """Sidecars without a target, what only says that it is one, and what another version made."""
    for row in scene.rows:
        if row.state == "orphan":
            text = f"'{row.sidecar}' has no target that runs: byfahrer run removes it, or byfahrer eject {row.sidecar}"
            yield Finding("leftovers", WARNING, text)
    for stray in scene.strays:
        text = f"'{stray.name}' has the label {labels.TARGET} and shares the network of no such container"
        yield Finding("leftovers", WARNING, f"{text}: it is no sidecar, and left alone")
    sidecars = [each for observed in scene.observed for each in observed.sidecars if each.status is Status.RUNNING]
    versions = Counter(each.labels.get(labels.VERSION, "") for each in sidecars)
    for version, number in sorted(versions.items()):
        if version != __version__:
            made = f"made by byfahrer {one_line(version, 50)}" if version else "of a version that does not say so"
            text = f"{number} sidecar(s) {made}, and we are {__version__}: they serve on; byfahrer eject renews them"
            yield Finding("leftovers", WARNING, text)
