"""
From the sidecars that one target has to the one that is wanted. Pure.

Where the old and the new one can share a port, the new one is put beside the old one, and has the kernel send it what
comes from then on. The old one is asked to leave as soon as it sees the new one listen, however long that takes: nobody
is refused meanwhile, and a new one that cannot work costs nothing. Everywhere else name and port can be held once only,
so the old one goes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from byfahrer import labels
from byfahrer.model import (
    NOTHING,
    Action,
    Container,
    Inject,
    Mount,
    Observed,
    Plan,
    Remove,
    Rename,
    Restart,
    SidecarSpec,
    Start,
    Status,
)

NEXT: Final = "-next"
"""What the name of a sidecar ends with until the one before it is gone."""
RESTARTED: Final = "its target has restarted"

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_SWITCHED_ON = ("on", "true", "1", "yes")


def sidecar_name(target: Container) -> str:
    return f"{target.name}-proxy"


def fits(sidecar: Container, target: Container, joined: Mapping[str, tuple[int, int]]) -> bool:
    """
    Whether a sidecar runs in the target's present namespace.

    Nothing tells a sidecar that its target restarted: it runs on in the old namespace. What it joined has been seen, or
    its age must show it.
    """
    if sidecar.status is not Status.RUNNING:
        return False
    seen = joined.get(sidecar.id)
    if seen is not None and seen[0] == sidecar.started_at:
        return seen[1] == target.started_at
    return sidecar.started_at >= target.started_at


def hands_over(sidecar: Container) -> bool:
    """Whether it shares its port with another of its like: it was told to, and its image says that it can."""
    return sidecar.env.get("SSLTERM_HAND_OVER") == "on" and sidecar.labels.get(labels.HAND_OVER) in labels.SIGNALS


def same_port(one: Container, other: Container) -> bool:
    """Whether the one can see that the other listens."""
    return one.env.get("SSLTERM_FRONTEND_ADDR") == other.env.get("SSLTERM_FRONTEND_ADDR")


def unwell(sidecar: Container, observed: Observed) -> str:
    """What is wrong with one that runs, and a restart may mend; empty for nothing."""
    if sidecar.id in observed.silent:
        return "it is not heard of any more"
    # A strict one is unhealthy because of what its target does: a restart would not change that.
    if sidecar.health == "unhealthy" and sidecar.env.get("SSLTERM_STRICT", "").lower() not in _SWITCHED_ON:
        return "it is unhealthy"
    return ""


def converge(
    spec: SidecarSpec,
    observed: Observed,
    target: Container,
    sidecars: tuple[Container, ...],
    may_serve: Callable[[Container], bool],
    wish: Mapping[str, str] = NOTHING,
) -> Plan:
    """
    What leads to exactly one that runs, has the spec, and sits in the right place.

    `may_serve`: whether one of another spec may go on for a while. `wish`: the labels by which somebody asked by hand.
    """
    all_of_it = _Convergence(spec, observed, target, sidecars, may_serve, wish)
    return all_of_it.plan()


class _Convergence:
    def __init__(
        self,
        spec: SidecarSpec,
        observed: Observed,
        target: Container,
        sidecars: tuple[Container, ...],
        may_serve: Callable[[Container], bool],
        wish: Mapping[str, str],
    ) -> None:
        self._spec = spec
        self._observed = observed
        self._target = target
        self._sidecars = sorted(sidecars, key=self._worth)
        self._may_serve = may_serve
        self._wish = wish
        self._same = [each for each in self._sidecars if self._usable(each)]
        self._keep = self._same[0] if self._same else None
        self._spare = self._choose_spare()

    def plan(self) -> Plan:
        keep, spare = self._keep, self._spare
        # Removed first: the name and the port can be held once only.
        actions: list[Action] = [
            Remove(each, self._why_not(each), drain=self._fits(each), brief=self._suspect(each))
            for each in sorted(self._sidecars, key=lambda each: each.id)
            if each is not keep and each is not spare
        ]
        if spare is not None and spare.status is Status.EXITED:
            actions.append(Start(spare, for_now=True))
        elif spare is not None and not self._fits(spare):
            actions.append(Restart(spare, RESTARTED, for_now=True))
        serving = awaited = None
        base = sidecar_name(self._target)
        if keep is None:
            name = base + NEXT if spare is not None and spare.name == base else base
            actions.append(Inject(name, self._target, self._spec, spare))
        elif keep.status in (Status.CREATED, Status.EXITED):
            actions.append(Start(keep))
        elif why := self._why_restart(keep):
            actions.append(Restart(keep, why))
        elif spare is not None:
            awaited = keep
        else:
            serving = keep
        if keep is not None and spare is None and keep.name != base:
            actions.append(Rename(keep, base))
        return Plan(tuple(actions), serving=serving, spare=spare, awaited=awaited, image=self._spec.image)

    def _choose_spare(self) -> Container | None:
        """The one of another spec that serves until the wanted one does."""
        keep, alone = self._keep, self._observed.image_missing
        shares = dict(self._spec.env).get("SSLTERM_HAND_OVER") == "on" and (keep is None or hands_over(keep))
        if not shares and not alone:
            return None
        spare = next((each for each in self._sidecars if each not in self._same and self._can_stand_in(each)), None)
        if spare is None:
            return None
        if keep is not None and self._works(keep, spare):
            return None
        # Where neither serves, there is nothing to be kept up; but the wanted one may have been down for long already.
        down = keep is not None and keep.status in (Status.CREATED, Status.EXITED)
        return spare if down or alone or self._fits(spare) else None

    def _works(self, sidecar: Container, spare: Container) -> bool:
        """As far as time can show it. Who shares its port sees more, and leaves by itself, unless it hangs."""
        enough = self._observed.awaited_long if same_port(sidecar, spare) else self._observed.proven
        return sidecar.id in enough and not self._why_restart(sidecar)

    def _can_stand_in(self, sidecar: Container) -> bool:
        return (
            sidecar.status in (Status.RUNNING, Status.EXITED)
            and (hands_over(sidecar) or self._observed.image_missing)
            and sidecar.user == self._spec.user  # the kernel shares a port within one user only
            and not sidecar.freedoms
            and not _lies(sidecar, self._spec)
            and self._may_serve(sidecar)
            and (not self._wish or labels.wish_of(sidecar) == self._wish)
        )

    def _suspect(self, sidecar: Container) -> bool:
        return bool(sidecar.freedoms) or _lies(sidecar, self._spec) or not self._may_serve(sidecar)

    def _usable(self, sidecar: Container) -> bool:
        return (
            sidecar.status in (Status.RUNNING, Status.PAUSED, Status.CREATED, Status.EXITED)
            and _is(sidecar, self._spec)
            and not self._outdated(sidecar)
            and (not self._wish or bool(labels.wish_of(sidecar)))
        )

    def _outdated(self, sidecar: Container) -> bool:
        """Whether the image's name has gone to another image since. One that is not there any more can stay in use."""
        return self._observed.image_id not in (None, sidecar.image_id)

    def _worth(self, sidecar: Container) -> tuple[bool, bool, bool, str]:
        proven = sidecar.id in self._observed.proven
        return (not self._fits(sidecar), sidecar.status is not Status.RUNNING, not proven, sidecar.id)

    def _fits(self, sidecar: Container) -> bool:
        return fits(sidecar, self._target, self._observed.joined)

    def _why_restart(self, sidecar: Container) -> str:
        if self._fits(sidecar):
            return unwell(sidecar, self._observed)
        return "it is paused" if sidecar.status is Status.PAUSED else RESTARTED

    def _why_not(self, sidecar: Container) -> str:
        if sidecar in self._same:
            return "there is another"
        if _lies(sidecar, self._spec):
            has = [*sidecar.freedoms, *(each for each in sidecar.capabilities if each not in self._spec.capabilities)]
            return f"it is not what it says it is{': it has ' if has else ''}{', '.join(has)}"
        return "its image has been updated" if _is(sidecar, self._spec) else "what is asked for has changed"


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


def _lies(sidecar: Container, spec: SidecarSpec) -> bool:
    """Whether it only says that it is what this spec makes."""
    return sidecar.labels.get(labels.SPEC) == spec.digest and not _is(sidecar, spec)


def _is_new(mount: Mount) -> bool:
    return mount.kind == "volume" and _ANONYMOUS.fullmatch(mount.source) is not None
