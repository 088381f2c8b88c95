"""What a target's labels ask of its certificate: more names, another lifetime. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from byfahrer import labels, spec
from byfahrer.model import NOTHING, Container

LIFETIME: Final = 86400.0
"""Seconds that a leaf is good for, if nobody says otherwise: a stolen one is of use for a day."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for beside what is the rule."""

    names: tuple[str, ...] = ()
    lifetime: float | None = None
    """Seconds."""


def read_wish(target: Container, service: Mapping[str, str], by_hand: Mapping[str, str] = NOTHING) -> Wish:
    """From a target's own labels, those of its service, and those given by hand; what makes no sense is no wish."""
    if len(target.labels) > labels.MOST:
        return Wish()
    own = {label: value for label, value in target.labels.items() if label not in target.inherited}
    # Whose service it is, an image can say too.
    found = labels.collect({**by_hand, **own}, NOTHING if labels.SWARM_SERVICE in target.inherited else service)
    names: tuple[str, ...] = ()
    lifetime = None
    # What cannot be read was refused where the sidecar was made.
    with suppress(ValueError):
        names = spec.names(found[labels.NAMES].value) if labels.NAMES in found else ()
    with suppress(ValueError):
        lifetime = spec.leaf_lifetime(found[labels.LEAF_LIFETIME].value) if labels.LEAF_LIFETIME in found else None
    return Wish(names, lifetime)
