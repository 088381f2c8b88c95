"""Times as files and messages have them."""

from __future__ import annotations

import datetime as dt


def utc() -> dt.datetime:
    """Now."""
    return dt.datetime.now(dt.UTC)


def moment(when: dt.datetime) -> str:
    """As RFC 3339 has it, in UTC, to the second."""
    # Not strftime: it writes the year 1 as "1", which nobody can read back.
    return f"{when.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"
