"""What a sidecar says of itself (`POST /v1/status`): read strictly, cut short, believed of that sidecar only. Pure."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from byfahrer.authority.ledger import Holder
from byfahrer.authority.times import moment
from byfahrer.model import one_line

SOURCES: Final = ("authority", "files", "acme", "self-signed")
MOST_NAMES: Final = 200
MOST_ADDRESSES: Final = 8
MOST_REASONS: Final = 50
LONGEST: Final = 300
"""Characters of a text that people may see."""
_HEX: Final = re.compile(r"[0-9A-Fa-f:]{0,95}", re.ASCII)


class ReportError(ValueError):
    """A report that cannot be read: `str()` says which field, and what is expected there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One word of a sidecar."""

    source: str
    serial: str = ""
    sha256: str = ""
    not_after: str = ""
    names: tuple[str, ...] = ()
    failing: str = ""
    denied: Mapping[str, int] = field(default_factory=dict)
    connections: int = 0
    requests: int = 0
    phase: str = ""
    """`starting`, `serving`, …; empty, as the next three, where an older sidecar does not say."""
    ready: bool | None = None
    fault: str = ""
    """Why it is not ready."""
    bypass: tuple[str, ...] = ()
    """Where clients could go round TLS."""

    @classmethod
    def read(cls, body: bytes) -> Report:
        """From JSON. What a newer sidecar says beside is left out. ReportError."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            raise ReportError("expected JSON") from None
        if not isinstance(told, dict):
            raise ReportError("expected a JSON object")
        source = _text(told, "source")
        if source not in SOURCES:
            raise ReportError(f"source: expected one of {', '.join(SOURCES)}")
        return cls(
            source=source,
            serial=_hex(told, "serial").lstrip("0"),
            sha256=_hex(told, "sha256"),
            not_after=_time(told, "not_after"),
            names=_texts(told, "names", MOST_NAMES),
            failing=_text(told, "failing"),
            denied=_counts(told),
            connections=_count(told.get("connections", 0), "connections"),
            requests=_count(told.get("requests", 0), "requests"),
            phase=_text(told, "phase"),
            ready=_switch(told, "ready"),
            fault=_text(told, "fault"),
            bypass=_texts(told, "bypass", MOST_ADDRESSES),
        )

    def told_by(self, holder: Holder) -> Holder:
        """`holder` after this word. Of what the authority gave it knows more than the sidecar."""
        said = replace(
            holder, failing=self.failing, denied=dict(self.denied), connections=self.connections, requests=self.requests
        )
        # Where a sidecar has its certificate from never changes: none can make forgotten what it was given.
        if self.source == "authority" or holder.issuer:
            return replace(said, source="authority")
        spiffe = next((name for name in self.names if name.startswith("spiffe://")), "")
        return replace(
            said,
            source=self.source,
            serial=self.serial,
            sha256=self.sha256,
            not_before="",
            not_after=self.not_after,
            names=[name for name in self.names if name != spiffe],
            spiffe=spiffe,
            issued="",
            renews="",
            issuer="",
            lifetime=0,
        )


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise ReportError(f"{name}: expected a string")
    return one_line(value, LONGEST)


def _hex(told: Mapping[str, Any], name: str) -> str:
    value = _text(told, name)
    if not _HEX.fullmatch(value):
        raise ReportError(f"{name}: expected hexadecimal digits")
    return value.replace(":", "").lower()


def _time(told: Mapping[str, Any], name: str) -> str:
    value = _text(told, name)
    try:
        when = dt.datetime.fromisoformat(value) if value else None
        if when is not None and when.tzinfo is None:
            raise ValueError
        return moment(when) if when else ""
    except (ValueError, OverflowError):
        raise ReportError(f"{name}: expected a time such as 2026-01-31T12:00:00Z") from None


def _texts(told: Mapping[str, Any], name: str, most: int) -> tuple[str, ...]:
    value = told.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ReportError(f"{name}: expected a list of strings")
    return tuple(one_line(each, LONGEST) for each in value[:most])


def _switch(told: Mapping[str, Any], name: str) -> bool | None:
    value = told.get(name)
    if value is not None and not isinstance(value, bool):
        raise ReportError(f"{name}: expected true or false")
    return value


def _counts(told: Mapping[str, Any]) -> dict[str, int]:
    value = told.get("denied", {})
    if not isinstance(value, dict):
        raise ReportError("denied: expected an object of counts by reason")
    return {one_line(name, LONGEST): _count(count, "denied") for name, count in list(value.items())[:MOST_REASONS]}


def _count(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ReportError(f"{name}: expected a count")
    return value
