"""
What people do by hand beside a running injector, or without one: `byfahrer inject` and `eject`.

It goes the way the daemon goes, and leaves its wish on the sidecar: a daemon that runs, or comes later, keeps it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import anyio

from byfahrer import labels, rundir, settings
from byfahrer.authority import ledger
from byfahrer.authority.errors import StateError
from byfahrer.authority.state import StateFolder
from byfahrer.authority.times import utc
from byfahrer.authority.tokens import Tokens
from byfahrer.engine.errors import ConflictError, NotFoundError
from byfahrer.engine.interface import Engine
from byfahrer.model import Container, Observed, Plan, Start, Status
from byfahrer.plan import Policy, plan
from byfahrer.reconcile.observe import observe
from byfahrer.reconcile.reconciler import DRAIN, Reconciler
from byfahrer.spec import SOCKET

LOOKS = 15
"""For a sidecar to take the place of another: at each there is something to do, or a second or two to wait."""
SETTLED = 1.0
"""Seconds that a sidecar has to find out that it cannot work; it exits within half of that where it cannot."""


class ManualError(Exception):
    """What was asked for cannot be done; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Ejected:
    """A sidecar that is gone."""

    sidecar: str
    target: str
    asked_for: bool
    """Whether the target's labels ask for it, so that a running daemon puts it back."""


Token = Callable[[str, str], str]


async def with_authority(engine: Engine, policy: Policy, chosen: settings.Authority | None, own_id: str) -> Policy:
    """The policy that the daemon would have beside us."""
    if chosen is None:
        return policy
    try:
        return replace(policy, authority=await rundir.shared(engine, chosen.run_dir, own_id))
    except rundir.NotSharedError:
        return policy


def token_maker(chosen: settings.Authority | None) -> Token | None:
    """
    What makes tokens, if an authority serves here; without one, a sidecar signs for itself.

    A daemon that we cannot see from here gives such a sidecar its certificate later.
    """
    if chosen is None:
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(chosen.run_dir / SOCKET))
        except OSError:
            return None
    return Tokens.load(StateFolder(chosen.state_dir)).make


def certificates(chosen: settings.Authority | None) -> dict[str, str]:
    """What is known of sidecars' certificates, by their IDs: nothing, where we may not read the authority's folder."""
    if chosen is None:
        return {}
    try:
        found = ledger.read(StateFolder(chosen.state_dir), ledger.FILE)
    except StateError:
        return {}
    return {each.sidecar_id: each.state(utc()) for each in found}


async def inject(
    engine: Engine, policy: Policy, name: str, wish: Mapping[str, str], token: Token | None = None
) -> Container:
    """
    The sidecar of the container `name`, running.

    `wish` holds labels as they could stand on the target. It may be empty where the target carries its own.
    """
    target = await find_target(engine, name)
    carried = await observe(engine, target.id)
    check_wish(carried, name, wish)
    if not target.alive:
        raise ManualError(f"'{name}' does not run ({target.status}): start it first")
    todo = plan(await observe(engine, target.id, wish), policy)
    if todo.problems:
        raise ManualError("; ".join(map(str, todo.problems)))
    if not policy.covers({**carried.service.labels, **target.labels}):
        raise ManualError(f"'{name}' is not among the containers that --only-label selects")
    reconciler = Reconciler(engine, policy, token=token)
    for _ in range(LOOKS):
        # Where one is replaced, the new one has to prove itself, and the old one to finish what is under way.
        again = await reconciler.reconcile(target.id, wish)
        if again is None or _failed(plan(await observe(engine, target.id, wish), policy)):
            break
        await anyio.sleep(again)
    return await _settled(engine, policy, target, wish)


async def labelled(engine: Engine, name: str) -> bool:
    """Whether the container `name` says itself what sidecar it gets."""
    return _says(await observe(engine, (await find_target(engine, name)).id))


def check_wish(observed: Observed, name: str, wish: Mapping[str, str]) -> None:
    """See that either the target says what sidecar it gets, or `wish` does. ManualError."""
    own = _says(observed)
    if own and wish:
        raise ManualError(f"'{name}' says by its own labels what sidecar it gets: leave out --image and --set")
    if not own and not wish:
        raise ManualError(f"'{name}' has no label {labels.SHORT}{labels.PROXY_IMAGE}: say which with --image")


def _says(observed: Observed) -> bool:
    carried = observed.target.labels if observed.target else {}
    return labels.PROXY_IMAGE in labels.collect(carried, observed.service.labels)


async def eject(engine: Engine, name: str) -> list[Ejected]:
    """Remove the sidecar of the container `name`, which may be the sidecar's own name too."""
    found = await find(engine, name)
    ours = (await observe(engine, labels.target_of(found) or found.id)).sidecars
    if not ours:
        raise ManualError(f"'{name}' has no sidecar of ours")
    return await _eject(engine, ours)


async def eject_all(engine: Engine, policy: Policy) -> list[Ejected]:
    """Remove every sidecar that is ours, and nothing else."""
    # Many may carry the label; only looking at each tells who is a sidecar.
    claims = {
        labels.claim(each.labels) for each in await engine.containers(labels.TARGET) if policy.covers(each.labels)
    }
    found = [each for target_id in claims if target_id for each in (await observe(engine, target_id)).sidecars]
    return await _eject(engine, [each for each in found if policy.covers(each.labels)])


async def _eject(engine: Engine, sidecars: Iterable[Container]) -> list[Ejected]:
    gone: list[Ejected] = []

    async def remove(sidecar: Container) -> None:
        target_id = sidecar.labels[labels.TARGET]
        observed = await observe(engine, target_id)
        target = observed.target
        with suppress(NotFoundError, ConflictError):  # it goes anyway
            await engine.stop(sidecar.id, DRAIN if sidecar.stop_timeout is None else sidecar.stop_timeout)
        await engine.remove(sidecar.id)
        name = target.name if target else sidecar.labels.get(labels.TARGET_NAME, target_id[:12])
        found = labels.collect(target.labels, observed.service.labels) if target and target.alive else {}
        gone.append(Ejected(sidecar.name, name, labels.PROXY_IMAGE in found))

    async with anyio.create_task_group() as tasks:
        for each in sidecars:
            tasks.start_soon(remove, each)
    return sorted(gone, key=lambda each: each.sidecar)


async def _settled(engine: Engine, policy: Policy, target: Container, wish: Mapping[str, str]) -> Container:
    """The sidecar, once it has run for a moment; its last words, if it has not."""
    for _ in range(10):
        await anyio.sleep(SETTLED / 10)
        observed = await observe(engine, target.id, wish)
        todo = plan(observed, policy)
        if not observed.sidecars or _failed(todo):
            break
    if todo.serving:
        return todo.serving
    stays = f"; '{todo.spare.name}' serves on" if todo.spare else ""
    for sidecar in _failed(todo):
        words = await engine.last_words(sidecar.id)
        text = f"'{sidecar.name}' exited with code {sidecar.exit_code}{f': {words}' if words else ''}{stays}"
        raise ManualError(text)
    if observed.sidecars:
        raise ManualError(f"the sidecar of '{target.name}' does not serve yet{stays}")
    raise ManualError(f"the sidecar of '{target.name}' was removed again: does a byfahrer run that does not know it?")


def _failed(todo: Plan) -> list[Container]:
    """The sidecar that was to run and has ended."""
    starts = [each for each in todo.actions if isinstance(each, Start) and not each.for_now]
    return [each.sidecar for each in starts if each.sidecar.status is Status.EXITED]


async def find_target(engine: Engine, name: str) -> Container:
    """The container of this name or ID, which is no sidecar; ManualError."""
    found = await find(engine, name)
    if labels.target_of(found):
        raise ManualError(f"'{name}' is a sidecar itself; name its target")
    return found


async def find(engine: Engine, name: str) -> Container:
    """The container of this name or ID, or ManualError."""
    try:
        return await engine.inspect(name)
    except NotFoundError:
        raise ManualError(f"there is no container '{name}' on the engine at {engine.where}") from None
