"""
Patterns of names: `*` is anything within a segment, the whole or a part of it; `**` is anything at all.

All ways to match are followed at once, a bit for each place in the pattern, so the time goes with the length of the
name, whatever the pattern. A regular expression with several wildcards tries one way after the other.
"""

from __future__ import annotations

import re
from typing import Final

_PARTS: Final = re.compile(r"\*+|[^*]")


class Pattern:
    """One pattern, made once; `separator` ends a segment."""

    __slots__ = ("_end", "_letters", "_separator", "_skippable", "_stays", "_stays_within")

    def __init__(self, text: str, separator: str) -> None:
        self._separator = separator
        self._letters: dict[str, int] = {}
        """For each character, the places at which it leads to the next one."""
        self._stays = 0
        """The places of `**`: any character leads back to them."""
        self._stays_within = 0
        """The places of `*` and `**`: any character but the separator does."""
        place = 1
        for part in _PARTS.findall(text):
            if part[0] != "*":
                self._letters[part] = self._letters.get(part, 0) | place
            else:
                self._stays_within |= place
                if len(part) > 1:
                    self._stays |= place
            place <<= 1
        self._skippable = self._stays_within
        self._end = place

    def matches(self, name: str) -> bool:
        """Whether all of `name` fits."""
        skippable, letters = self._skippable, self._letters
        places = 1 | (1 & skippable) << 1  # no two wildcards are neighbours: one step gets past each
        for letter in name:
            stays = self._stays if letter == self._separator else self._stays_within
            places = (places & letters.get(letter, 0)) << 1 | (places & stays)
            places |= (places & skippable) << 1
            if not places:
                return False
        return bool(places & self._end)


class Allowed:
    """Whose certificates may call: `all`, DNS names and SPIFFE IDs."""

    __slots__ = ("_dns", "_everybody", "_uris")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        """Without any, everybody may."""
        self._everybody = not patterns or "all" in patterns
        spiffe = [each for each in patterns if each.startswith("spiffe://")]
        self._uris = [Pattern(each, "/") for each in spiffe]
        self._dns = [Pattern(each.lower(), ".") for each in patterns if each not in spiffe]

    def admits(self, uri: str, names: tuple[str, ...]) -> bool:
        """Whether a client with this SPIFFE ID, or none, and these DNS names may call."""
        if self._everybody or any(each.matches(uri) for each in self._uris if uri):
            return True
        lower = [name.lower() for name in names]
        return any(each.matches(name) for each in self._dns for name in lower)
