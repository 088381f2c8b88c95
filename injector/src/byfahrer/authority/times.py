"""Times as files and messages have them."""

from __future__ import annotations

import datetime as dt


def utc() -> dt.datetime:
    """Now."""
    return dt.datetime.now(dt.UTC)


def moment(when: dt.datetime) -> str:
    """As RFC 3339 has it, in UTC, to the second."""
    return when.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
