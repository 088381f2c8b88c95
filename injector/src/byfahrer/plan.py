"""
What must be done so that one target has the one sidecar that it asks for. Pure, total, deterministic.

`plan` looks at the present only: it knows no event and no history. Carrying out its actions and planning again gives
nothing to do, whatever the state was before; so it may be asked at any time, as often as one likes, by two injectors at
once, and after anything went wrong half way.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from byfahrer import labels
from byfahrer.allow import ImagePattern
from byfahrer.limits import Limits, forbidden
from byfahrer.model import (
    Action,
    Container,
    Inject,
    Mount,
    Observed,
    Plan,
    Problem,
    Remove,
    Restart,
    SidecarSpec,
    Start,
    Status,
)
from byfahrer.spec import NO_LOG, Log, sidecar_spec

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


class Pull(enum.StrEnum):
    """When a sidecar's image is pulled before one is created; the words are those of `docker run --pull`."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator decided; a label cannot change it."""

    allow_images: tuple[ImagePattern, ...]
    only_labels: tuple[tuple[str, str | None], ...] = ()
    """Serve only targets that carry all of these; None for any value."""
    sidecar_user: str
    limits: Limits
    log: Log = NO_LOG
    pull: Pull = Pull.MISSING
    own_id: str = ""
    """The container that this program runs in, if it does."""
    authority: Mount | None = None
    """The folder with the authority's socket, as sidecars get it; None: they sign for themselves."""

    def covers(self, carried: Mapping[str, str]) -> bool:
        """Whether something with these labels is ours to look after."""
        return all(key in carried and (value is None or carried[key] == value) for key, value in self.only_labels)

    def marks(self, carried: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The labels a sidecar takes over, so that it is covered too once its target is gone."""
        return tuple(sorted((key, carried[key]) for key, _ in self.only_labels if key in carried))


@dataclass(frozen=True, slots=True)
class _Wish:
    """What one target is to have: a sidecar, or none, and why."""

    spec: SidecarSpec | None = None
    problems: tuple[Problem, ...] = ()
    by_hand: bool = False
    """Whether it is the sidecar itself that carries the wish: then no other one will do."""
    without: str = ""
    """The reason for which a sidecar that exists has to go."""
    leave: bool = False
    """Whether one that runs may stay all the same: an operator made it, of an image that we may not start."""
    keep: bool = False
    """Whether the one that serves stays: what is asked for now cannot be understood, what was asked before works."""


def plan(observed: Observed, policy: Policy) -> Plan:
    """Actions that bring one target to what it asks for, and the problems that keep it from that."""
    target = observed.target
    alive = target is not None and target.alive
    if alive and not _covered(observed, policy):
        return Plan()
    if target is not None and alive and observed.service_gone and not labels.collect(target.labels):
        return Plan()  # what it asked for cannot be read any more, and its last requests come through its sidecar
    ours = own_sidecars(observed, policy)
    wish = _wish(observed, policy)
    if wish.spec is None or target is None:
        gone = sorted(ours, key=_by_id)
        if wish.leave and target is not None:
            stays = next((each for each in gone if _stays(each, target)), None)
            gone = [each for each in gone if each is not stays]
        elif wish.keep and target is not None:
            gone = [each for each in gone if each is not _serving(gone, target, policy)]
        return Plan(tuple(Remove(each, wish.without, alive) for each in gone), wish.problems)
    actions, serving = _towards(wish.spec, target, ours, by_hand=wish.by_hand)
    return Plan(actions, wish.problems, serving)


def own_sidecars(observed: Observed, policy: Policy) -> tuple[Container, ...]:
    """The target's sidecars that are this injector's to look after."""
    # Of a dead target the service's labels are not known, of a gone one nothing: the marks on the sidecar say it then.
    covered = _covered(observed, policy)
    return tuple(
        sidecar
        for sidecar in observed.sidecars
        # The engine is removing it already: it counts as gone.
        if sidecar.status is not Status.REMOVING and (covered or policy.covers(sidecar.labels))
    )


def sidecar_name(target: Container) -> str:
    return f"{target.name}-proxy"


def fits(sidecar: Container, target: Container) -> bool:
    """
    Whether a sidecar runs in the target's present namespace.

    Nothing tells a sidecar that its target restarted: it runs on in the old namespace, and only its age shows it.
    """
    return sidecar.status is Status.RUNNING and sidecar.started_at >= target.started_at


def _stays(sidecar: Container, target: Container) -> bool:
    """Whether a sidecar made by hand serves, or will once its maker has started it."""
    serves = sidecar.status in (Status.RUNNING, Status.PAUSED) and sidecar.started_at >= target.started_at
    return bool(labels.wish_of(sidecar)) and (serves or sidecar.status is Status.CREATED)


def _serving(sidecars: list[Container], target: Container, policy: Policy) -> Container | None:
    """A sidecar that does its work, and that could have been made by us today."""
    for each in sidecars:
        confined = not each.freedoms and policy.limits.capabilities.issuperset(each.capabilities)
        if fits(each, target) and confined and any(p.allows(each.image) for p in policy.allow_images):
            return each
    return None


def _is(sidecar: Container, spec: SidecarSpec) -> bool:
    """Whether a container is what a spec makes. Its labels, the digest among them, can be anyone's copy."""
    # The engine names a new volume by 64 digits: ours, and one that only the image asked for.
    mounts = {*sidecar.mounts, *(replace(mount, source="") for mount in sidecar.mounts if _is_new(mount))}
    foreign = [mount for mount in sidecar.mounts if mount not in spec.mounts and not _is_new(mount)]
    return (
        sidecar.labels.get(labels.SPEC) == spec.digest
        and sidecar.image == spec.image
        and sidecar.user == spec.user
        and not sidecar.freedoms
        and sidecar.capabilities == spec.capabilities
        and not foreign
        and all(mount in mounts for mount in spec.mounts)
    )


def _is_new(mount: Mount) -> bool:
    return mount.kind == "volume" and _ANONYMOUS.fullmatch(mount.source) is not None


def _unlike(sidecar: Container, spec: SidecarSpec) -> str:
    if sidecar.labels.get(labels.SPEC) == spec.digest and not _is(sidecar, spec):
        has = [*sidecar.freedoms, *(each for each in sidecar.capabilities if each not in spec.capabilities)]
        return f"it is not what it says it is{': it has ' if has else ''}{', '.join(has)}"
    return "what is asked for has changed"


def _covered(observed: Observed, policy: Policy) -> bool:
    target = observed.target
    return target is not None and policy.covers({**observed.service_labels, **target.labels})


def _by_id(container: Container) -> str:
    return container.id


def _towards(
    spec: SidecarSpec, target: Container, sidecars: tuple[Container, ...], *, by_hand: bool
) -> tuple[tuple[Action, ...], Container | None]:
    """From the sidecars there are to exactly one that runs, has the spec, and sits in the right place; it, if so."""

    def usable(sidecar: Container) -> bool:
        return (
            sidecar.status in (Status.RUNNING, Status.PAUSED, Status.CREATED, Status.EXITED)
            and _is(sidecar, spec)
            and (not by_hand or bool(labels.wish_of(sidecar)))
        )

    def worth(sidecar: Container) -> tuple[bool, bool, str]:
        return (not fits(sidecar, target), sidecar.status is not Status.RUNNING, sidecar.id)

    same = sorted(filter(usable, sidecars), key=worth)
    keep = same[0] if same else None
    # Removed first: the name and the port can be held once only.
    actions: list[Action] = []
    for sidecar in sorted(sidecars, key=_by_id):
        if sidecar is not keep:
            why = "there is another" if sidecar in same else _unlike(sidecar, spec)
            actions.append(Remove(sidecar, why, drain=fits(sidecar, target)))
    if keep is None:
        actions.append(Inject(sidecar_name(target), target, spec))
    elif keep.status in (Status.CREATED, Status.EXITED):
        actions.append(Start(keep))
    elif not fits(keep, target):
        actions.append(Restart(keep))
    else:
        return tuple(actions), keep
    return tuple(actions), None


def _wish(observed: Observed, policy: Policy) -> _Wish:
    target = observed.target
    if target is None:
        return _Wish(without="its target is gone")
    if not target.alive:
        return _Wish(without="its target does not run")
    if labels.target_of(target) or target.id == policy.own_id:
        return _Wish(without="its target is no target")
    if len(target.labels) > labels.MOST:
        return _refused(target, [f"it has {len(target.labels)} labels: expected at most {labels.MOST}"])
    found = labels.collect(target.labels, observed.service_labels, target.inherited)
    by_hand, carried = False, False
    extra = policy.marks({**observed.service_labels, **target.labels})
    try:
        if labels.PROXY_IMAGE not in found:
            # A sidecar made by hand carries what it is to be; several of them take two operators at the same moment.
            for wish in [observed.by_hand, *map(labels.wish_of, sorted(observed.sidecars, key=_by_id))]:
                if wish:
                    found, by_hand, carried = labels.collect(wish), True, wish is not observed.by_hand
                    extra = tuple(sorted({**dict(extra), **wish, labels.MANUAL: "true"}.items()))
                    break
        if not labels.asks(found):
            lone = labels.without_trigger(found, target.inherited)
            problems = (Problem(target.name, lone),) if lone else ()
            return _Wish(without="it is not asked for any more", problems=problems)
    except labels.LabelError as error:
        return _refused(target, [str(error)], keep=True)

    texts = _unfit(target)
    spec = sidecar_spec(
        found,
        target,
        user=policy.sidecar_user,
        bounds=policy.limits,
        log=policy.log,
        authority=policy.authority,
        labels=extra,
    )
    if isinstance(spec, list):
        texts += [str(error) for error in spec]
        return _refused(target, texts, keep=not _unfit(target))
    # Of their own process, operators may start anything; what a sidecar carries can be anyone's.
    if not by_hand or carried:
        image, beyond = _not_allowed(spec, found, policy), forbidden(found, spec, policy.limits)
        if carried and (image or beyond) and not texts:
            what = f"image {spec.image!r} is not allowed (--allow-image)" if image else "what it may do is not allowed"
            return _Wish(without=f"{what} to be started again", leave=True)
        if beyond and not image and not texts:
            return _refused(target, beyond, keep=True)
        texts += [*([image] if image else []), *beyond]
    if texts:
        return _refused(target, texts)
    return _Wish(spec, by_hand=by_hand)


def _not_allowed(spec: SidecarSpec, found: labels.Annotations, policy: Policy) -> str:
    """Why this image may not be a sidecar; empty if it may."""
    if any(pattern.allows(spec.image) for pattern in policy.allow_images):
        return ""
    allowed = ", ".join(map(str, policy.allow_images)) or "none"
    label = found[labels.PROXY_IMAGE].label
    return f"{labels.Annotation(label, spec.image)}: expected an allowed image (--allow-image): {allowed}"


def _refused(target: Container, texts: list[str], *, keep: bool = False) -> _Wish:
    problems = tuple(Problem(target.name, text) for text in texts)
    return _Wish(problems=problems, without="its target is refused", keep=keep)


def _unfit(target: Container) -> list[str]:
    """Networks that a sidecar must not or cannot share."""
    mode = target.network_mode
    advice = "expected a bridge, overlay or other network of its own"
    if mode == "host":
        return [f"--network host: {advice}; a sidecar there would bind ports of the host itself"]
    if mode == "none":
        return [f"--network none: {advice}; nobody could reach a sidecar there"]
    if mode.startswith("container:"):
        owner = mode.removeprefix("container:")[:12]
        return [f"--network container:{owner}: {advice}; put the labels on the container that owns the namespace"]
    return []
