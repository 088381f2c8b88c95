"""What a target's labels ask of its certificate: more names, another lifetime. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from byfahrer import labels
from byfahrer.model import NOTHING, Container
from sslterm.settings import parse_duration

NAMES: Final = "names"
LIFETIME_LABEL: Final = "cert-lifetime"

LIFETIME: Final = 86400.0
"""Seconds that a leaf is good for, if nobody says otherwise: a stolen one is of use for a day."""
SHORTEST: Final = 60.0
LONGEST: Final = 90 * 86400.0
_DAYS: Final = re.compile(r"([0-9]{1,3})d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for beside what is the rule."""

    names: tuple[str, ...] = ()
    lifetime: float | None = None
    """Seconds."""


def read_wish(target: Container, service: Mapping[str, str], by_hand: Mapping[str, str] = NOTHING) -> Wish:
    """From a target's own labels, those of its service, and those given by hand; what makes no sense is no wish."""
    own = {label: value for label, value in target.labels.items() if label not in target.inherited}
    found = labels.collect({**by_hand, **own}, service)
    names = found[NAMES].value.split(",") if NAMES in found else []
    lifetime = None
    if LIFETIME_LABEL in found:
        try:
            lifetime = parse_lifetime(found[LIFETIME_LABEL].value)
        except ValueError:
            lifetime = None  # whoever made the sidecar said so
    return Wish(tuple(name.strip().lower() for name in names if name.strip()), lifetime)


def parse_lifetime(text: str) -> float:
    """`1m` to `90d` as seconds; ValueError."""
    days = _DAYS.fullmatch(text.strip())
    seconds = int(days[1]) * 86400.0 if days else parse_duration(text.strip())
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(text)
    return seconds
