"""Which targets a full list of containers gives to look at. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from byfahrer import labels
from byfahrer.model import Status, Summary


def targets(listed: Iterable[Summary]) -> list[str]:
    """Whoever may ask for a sidecar, or has one, in the list's order."""
    found: dict[str, None] = {}
    for each in listed:
        target = labels.claim(each.labels)
        if target is not None:
            found[target] = None
        # Whoever claims to be a sidecar need not be one, and may be a target itself.
        if each.status in (Status.RUNNING, Status.PAUSED) and labels.mentions(each.labels):
            found[each.id] = None
    return list(found)
