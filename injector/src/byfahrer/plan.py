"""
What must be done so that one target has the one sidecar that it asks for. Pure, total, deterministic.

`plan` looks at the present only: it knows no event and no history. Carrying out its actions and planning again gives
nothing to do, whatever the state was before; so it may be asked at any time, as often as one likes, by two injectors at
once, and after anything went wrong half way.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from byfahrer import labels
from byfahrer.allow import ImagePattern
from byfahrer.converge import converge, fits, unwell
from byfahrer.limits import Limits, exceeds, forbidden
from byfahrer.model import (
    NOTHING,
    Action,
    Container,
    Mount,
    Observed,
    Plan,
    Problem,
    Remove,
    Restart,
    SidecarSpec,
    Status,
)
from byfahrer.spec import NO_LOG, Log, sidecar_spec


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

    def allows(self, image: str) -> bool:
        return any(pattern.allows(image) for pattern in self.allow_images)

    def may_serve(self, sidecar: Container) -> bool:
        """Whether one that exists could have been made today, by what labels can ask for."""
        return self.allows(sidecar.image) and self.limits.capabilities.issuperset(sidecar.capabilities)

    def would_make(self, sidecar: Container) -> bool:
        """Whether its image and its confinement are such as ours."""
        return self.allows(sidecar.image) and not sidecar.freedoms


@dataclass(frozen=True, slots=True)
class _Wish:
    """What one target is to have: a sidecar, or none, and why."""

    spec: SidecarSpec | None = None
    problems: tuple[Problem, ...] = ()
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """The labels by which it was asked for by hand: the sidecar itself carries them, and no other one will do."""
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
    ours = own_sidecars(observed, policy)
    if (
        target is not None and alive and observed.service_unknown
        and (not labels.collect(target.labels) or _serving(list(ours), observed, target, policy) is not None)
    ):  # fmt: skip
        return Plan()  # what it asks for cannot be read, or not any more, and requests come through what it has
    wish = _wish(observed, policy)
    if wish.spec is None or target is None:
        gone = sorted(ours, key=lambda each: (each.id not in observed.proven, each.id))
        stays: Container | None = None
        restarts: list[Action] = []
        if wish.leave and target is not None:
            stays = next((each for each in gone if _stays(each, observed, target)), None)
        elif wish.keep and target is not None:
            stays = _serving(gone, observed, target, policy)
            if stays is not None and (why := unwell(stays, observed)):
                restarts = [Restart(stays, why)]
        removals = (
            Remove(each, wish.without, alive, not policy.would_make(each)) for each in gone if each is not stays
        )
        actions = [*removals, *restarts]
        return Plan(tuple(actions), wish.problems)
    found = converge(wish.spec, observed, target, ours, policy.may_serve, wish.by_hand)
    return replace(found, problems=wish.problems)


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


def _stays(sidecar: Container, observed: Observed, target: Container) -> bool:
    """Whether a sidecar made by hand serves, or will once its maker has started it."""
    awake = replace(sidecar, status=Status.RUNNING) if sidecar.status is Status.PAUSED else sidecar
    serves = fits(awake, target, observed.joined)
    return bool(labels.wish_of(sidecar)) and (serves or sidecar.status is Status.CREATED)


def _serving(sidecars: list[Container], observed: Observed, target: Container, policy: Policy) -> Container | None:
    """
    A sidecar that does its work, and that could have been made by us today.

    One that is about to be replaced may use more for so long: what every sidecar gets can become less.
    """
    for each in sidecars:
        ours = not each.freedoms and policy.may_serve(each) and not exceeds(each, policy.limits)
        if ours and fits(each, target, observed.joined):
            return each
    return None


def _covered(observed: Observed, policy: Policy) -> bool:
    target = observed.target
    return target is not None and policy.covers({**observed.service.labels, **target.labels})


def _by_id(container: Container) -> str:
    return container.id


def _wish(observed: Observed, policy: Policy) -> _Wish:
    target = observed.target
    if target is None:
        return _Wish(without="its target is gone")
    if not target.alive:
        killed = "; the kernel killed something in it for want of memory" if target.oom_killed else ""
        return _Wish(without=f"its target does not run{killed}")
    if labels.target_of(target) or target.id == policy.own_id:
        return _Wish(without="its target is no target")
    if len(target.labels) > labels.MOST:
        return _refused(target, [f"it has {len(target.labels)} labels: expected at most {labels.MOST}"])
    found = labels.collect(target.labels, observed.service.labels, target.inherited)
    by_hand, carried = NOTHING, False
    extra = policy.marks({**observed.service.labels, **target.labels})
    try:
        if labels.PROXY_IMAGE not in found:
            # A sidecar made by hand carries what it is to be; several of them take two operators at the same moment.
            for wish in [observed.by_hand, *map(labels.wish_of, sorted(observed.sidecars, key=_by_id))]:
                if wish:
                    found, by_hand, carried = labels.collect(wish), wish, wish is not observed.by_hand
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
        observed.service,
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
    if policy.allows(spec.image):
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
