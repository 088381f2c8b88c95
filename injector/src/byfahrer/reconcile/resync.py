"""
Which targets a full list of containers gives to look at. Pure.

A list is one call however many containers there are; a look at one target is three or more. So each target has a mark,
made of what the list shows of it and of its sidecars, and is looked at when the list before showed another. That misses
nothing: whoever's mark has changed is looked at after the list, or stays in the queue until that succeeds; and if the
next list shows the same mark again, this look has seen it. Only what came of its own actions may have been undone, so
whoever had something to do is looked at again in any case. And so is whoever's sidecar shows no name of its image: that
the name is back, with another image, changes nothing in the list.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from byfahrer import labels
from byfahrer.model import Service, Status, Summary
from byfahrer.plan import Policy

NO_SERVICES: Mapping[str, Service] = MappingProxyType({})
"""By their IDs."""
ID = "sha256:"
"""How the ID of an image begins."""


def targets(listed: Sequence[Summary], policy: Policy | None = None) -> list[str]:
    """Whoever may ask for a sidecar, or has one, in the list's order; with a policy, as far as it may cover them."""
    ours = {each.id for each in listed if policy is None or may_cover(policy, each.labels)}
    found: dict[str, None] = {}
    for each in listed:
        target = labels.claim(each.labels)
        if target is not None and (each.id in ours or target in ours):
            found[target] = None
        # Whoever claims to be a sidecar need not be one, and may be a target itself.
        if each.id in ours and each.status in (Status.RUNNING, Status.PAUSED) and labels.mentions(each.labels):
            found[each.id] = None
    return list(found)


def may_cover(policy: Policy, carried: Mapping[str, str]) -> bool:
    """Whether something with these labels may be ours to look after: its service may say what it does not."""
    return labels.SWARM_SERVICE in carried or policy.covers(carried)


def tasks(listed: Iterable[Summary]) -> bool:
    """Whether some belong to Swarm services, whose labels count too."""
    return any(labels.SWARM_SERVICE in each.labels for each in listed)


class Marks:
    """What the last list showed: a number for each target, whatever it carries."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._marks: dict[str, int | None] = {}
        self.unnamed: list[str] = []
        """The targets that have a sidecar of whose image the last list showed only the ID."""

    def __iter__(self) -> Iterator[str]:
        """The targets in it."""
        return iter(self._marks)

    def forget(self) -> None:
        """Have everything that was there, or will be, count as changed."""
        self._marks = dict.fromkeys(self._marks)

    def changed(self, listed: Sequence[Summary], services: Mapping[str, Service] = NO_SERVICES) -> list[str]:
        """The targets that are new, gone, or not as they were in the last list."""
        before, self._marks = self._marks, _marks(listed, services, self._policy)
        self.unnamed = _unnamed(listed, self._marks)
        found = [target_id for target_id, mark in self._marks.items() if before.get(target_id) != mark]
        return found + [target_id for target_id in before if target_id not in self._marks]


def _unnamed(listed: Iterable[Summary], known: Container[str]) -> list[str]:
    """No image can have a name that begins as an ID."""
    claimed = (labels.claim(each.labels) for each in listed if each.image.startswith(ID))
    return [target_id for target_id in dict.fromkeys(claimed) if target_id is not None and target_id in known]


def _marks(listed: Sequence[Summary], services: Mapping[str, Service], policy: Policy) -> dict[str, int | None]:
    """Of each target, in the list's order: everything that a look at it could find changed."""
    by_id = {each.id: each for each in listed}
    shown: dict[str, list[object]] = {}
    for target_id in targets(listed, policy):
        target = by_id.get(target_id)
        if target is None:
            shown[target_id] = []
            continue
        service = services.get(target.labels.get(labels.SWARM_SERVICE, ""))
        known = (
            None
            if service is None
            else tuple(map(frozenset, (service.labels.items(), service.addresses, service.secrets.items())))
        )
        shown[target_id] = [target.name, target.status, target.endpoints, known]
    for each in sorted(listed, key=lambda each: each.id):
        claimed = labels.claim(each.labels)
        if claimed in shown:
            shown[claimed] += [each.id, each.name, each.status, each.unhealthy, each.image]
    return {target_id: hash(tuple(parts)) for target_id, parts in shown.items()}
