"""What a check of `byfahrer doctor` says: one line, and how bad it is."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from byfahrer.model import one_line


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


OK: Final = Level.OK
WARNING: Final = Level.WARNING
PROBLEM: Final = Level.PROBLEM


@dataclass(frozen=True, slots=True)
class Finding:
    """One of them."""

    check: str
    level: Level
    text: str
    """What is, and what to do about it."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"text": one_line(self.text)}

    def __str__(self) -> str:
        return f"{self.level:<8} {self.check:<10} {one_line(self.text)}"


def bad(findings: Iterable[Finding]) -> bool:
    """Whether there is a problem among them."""
    return any(each.level is PROBLEM for each in findings)
