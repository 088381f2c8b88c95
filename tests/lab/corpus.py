"""The corpus of HTTP messages, right and wrong: tests/corpus/*/cases.json, and where we differ from their authors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from lab.exchange import ASK, ASK_TO_UPGRADE, Exchange, Outcome, read_requests, read_response

FOLDER = Path(__file__).parents[1] / "corpus"
NAMES = sorted(each.parent.name for each in FOLDER.glob("*/cases.json"))


class Case(NamedTuple):
    """One stream of bytes, and what becomes of it."""

    corpus: str
    name: str
    side: str
    """Who sends it: a client a "request", or a backend a "response"."""
    wire: bytes
    theirs: str
    """What its authors expect of their own reader: "accept" or "refuse"."""
    ours: str
    """An `Outcome` in text."""

    def __str__(self) -> str:
        return f"{self.corpus}/{self.name}"

    def read(self, pieces: list[bytes]) -> tuple[Outcome, Exchange]:
        """What we make of it when it comes in these pieces."""
        if self.side == "request":
            return read_requests(pieces)
        return read_response(pieces, ASK_TO_UPGRADE if self.wire.startswith(b"HTTP/1.1 101 ") else ASK)

    def differs(self) -> bool:
        """We refuse what its authors accept, or pass on anything of what they refuse."""
        outcome, exchange = self.read([self.wire])
        if self.theirs == "accept":
            return outcome.refused
        passed = bool(exchange.backends) if self.side == "request" else outcome.whole > 0
        return passed and not outcome.refused


def cases(corpus: str) -> list[Case]:
    """All cases of one corpus."""
    found = json.loads((FOLDER / corpus / "cases.json").read_text())
    return [
        Case(corpus, each["name"], each["side"], each["wire"].encode("latin-1"), each["theirs"], each["ours"])
        for each in found
    ]


def differences(corpus: str) -> dict[str, list[str]]:
    """Why we differ from the authors of a corpus, and in which cases."""
    found: dict[str, list[str]] = json.loads((FOLDER / corpus / "differences.json").read_text())
    return found


CASES = [case for name in NAMES for case in cases(name)]
