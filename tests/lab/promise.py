"""
The promise, and what is done to break it: one vocabulary and one judge for the engine in memory and the real one.

*Every running target that asks has exactly one running sidecar, in its present namespace, with its present spec, and
nothing else of ours exists.* Steps are data: `lab.model` carries them out in memory, `lab.sample` on a real engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

IMAGE = "sslterm"
SERVICE = "s" * 25
"""ID of the Swarm service whose tasks some targets are."""

_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Step:
    """One thing that happens."""

    do: str
    who: int = 0
    """The place of a target: the container made last as `www<who>`."""
    what: str = ""
    wait: float = 0.0
    """Seconds until the next step."""
    at: str = ""
    """
    Not now, but when the engine has carried out an injector's next call of this method, and it does not know yet.

    `3 call` for the third one from now on, whatever it does; `3 change` for the third one that changes something.
    """

    def __repr__(self):
        more = {"who": self.who, "what": self.what, "wait": self.wait, "at": self.at}
        return f"Step({', '.join([repr(self.do), *(f'{name}={value!r}' for name, value in more.items() if value)])})"


@dataclass(frozen=True)
class Wish:
    """What a target is to have."""

    mode: str | None = None
    """Of the sidecar's setting; None if it is to have none of its own."""
    never: bool = False
    """None at all."""
    perhaps: bool = False
    """One, or none: it cannot be said from here."""
    any_spec: bool = False


NEVER = Wish(never=True)


@dataclass(frozen=True)
class Kind:
    """A sort of target: how it is made, and what it is to have."""

    labels: Mapping[str, str] = field(default_factory=dict)
    wish: Wish = NEVER
    network: str = "default"


ASKS = {"byfahrer.proxy-image": IMAGE}
KINDS: Mapping[str, Kind] = {
    "asks": Kind(ASKS, Wish()),
    "old": Kind({"org.qnib.byfahrer.proxy-image": IMAGE}, Wish()),
    "tcp": Kind(ASKS | {"byfahrer.mode": "tcp"}, Wish(mode="tcp")),
    "plain": Kind(),
    "off": Kind(ASKS | {"byfahrer.enable": "false"}),
    "wrong": Kind(ASKS | {"byfahrer.mode": "smtp"}),
    "foreign": Kind({"byfahrer.proxy-image": "evil/x"}),
    "host": Kind(ASKS, network="host"),
    "task": Kind({"com.docker.swarm.service.id": SERVICE}),  # its wish is its service's
}
SERVICES: Mapping[str, tuple[Mapping[str, str], Wish]] = {
    "plain": ({}, NEVER),
    "asks": (ASKS, Wish()),
    "tcp": (ASKS | {"byfahrer.mode": "tcp"}, Wish(mode="tcp")),
    "off": (ASKS | {"byfahrer.enable": "false"}, NEVER),
    # What is asked for cannot be understood, and who serves stays.
    "wrong": (ASKS | {"byfahrer.mode": "smtp"}, Wish(perhaps=True, any_spec=True)),
}


@dataclass(frozen=True)
class Seen:
    """A container, as either engine shows it."""

    id: str
    name: str
    status: str
    labels: Mapping[str, str]
    joined: str
    """Its network mode."""
    namespace: str
    """Which network namespace it sits in, in a form that can be compared; empty if in none."""
    image_id: str
    user: str
    mode: str | None
    """The sidecar's setting."""
    unhealthy: bool = False
    """By the engine's own probe."""

    @property
    def owner(self) -> str | None:
        """The target's ID, of a sidecar of ours."""
        claimed = self.labels.get("byfahrer.target", "")
        return claimed if _ID.fullmatch(claimed) and self.joined == f"container:{claimed}" else None

    @property
    def runs(self) -> bool:
        """Whether it has a process, if only a frozen one."""
        return self.status in ("running", "paused")


def promise(seen: Iterable[Seen], wishes: Mapping[str, Wish], image_id: str, user: str) -> list[str]:
    """In what the promise is broken, in words. `wishes` by ID of the target; `image_id` is what its name means now."""
    there = {each.id: each for each in seen}
    names = {each.name: each for each in there.values()}
    wrong = []
    for target_id, wish in wishes.items():
        target = there.get(target_id)
        if target is None or not target.runs or wish.never:
            continue
        mine = [each for each in there.values() if each.owner == target_id]
        wanted = f"{target.name}-proxy"
        holder = names.get(wanted)
        taken = holder is not None and holder.owner is None
        if not mine and not wish.perhaps and not taken:
            wrong.append(f"{target.name} has no sidecar")
        if len(mine) > 1:
            wrong.append(f"{target.name} has {len(mine)} sidecars: {', '.join(each.name for each in mine)}")
        for each in mine:
            wrong += [f"{each.name} {text}" for text in _wrong(each, target, wish, image_id, user)]
            if each.name != wanted and holder is None and not wish.any_spec:
                wrong.append(f"{each.name} is not named {wanted}")
    for each in there.values():
        if each.owner is None:
            continue
        target = there.get(each.owner)
        if target is None or not target.runs:
            wrong.append(f"{each.name} has no running target")
        elif wishes.get(each.owner, NEVER).never:
            wrong.append(f"{each.name} is nobody's wish")
    return wrong


def _wrong(sidecar: Seen, target: Seen, wish: Wish, image_id: str, user: str) -> list[str]:
    found = {
        f"is {sidecar.status}": sidecar.status != "running",
        "is unhealthy": sidecar.unhealthy,
        "is not where its target is": not sidecar.namespace or sidecar.namespace != target.namespace,
        "has another mode": not wish.any_spec and sidecar.mode != wish.mode,
        "has another user": not wish.any_spec and sidecar.user != user,
        "is of another image": not wish.any_spec and sidecar.image_id != image_id,
    }
    return [text for text, is_so in found.items() if is_so]


class World:
    """What both engines' worlds have in common: who is who, and what everybody is to have."""

    def __init__(self):
        self.places: dict[int, str] = {}
        """IDs of the targets made last, by place."""
        self.kinds: dict[str, str] = {}
        """Of every target that was ever made, by ID."""
        self.by_hand: set[str] = set()
        """Targets that an operator gave a sidecar, which they have for as long as somebody remembers."""
        self.service = "plain"
        self.strangers: dict[str, str] = {}
        """IDs of containers that are nobody's business, and how they were when they were made."""

    def do(self, step: Step) -> None:
        """Carry out a step that makes sense now; others are nothing."""
        act: Callable[[Step], None] = getattr(self, f"do_{step.do}")
        act(step)

    def wishes(self) -> dict[str, Wish]:
        return {target_id: self._wish(target_id, kind) for target_id, kind in self.kinds.items()}

    def _wish(self, target_id: str, kind: str) -> Wish:
        if target_id in self.by_hand:
            return Wish(perhaps=True, any_spec=True)
        return SERVICES[self.service][1] if kind == "task" else KINDS[kind].wish
