"""
What the sidecar says about itself: one line per event on stderr, as text or JSON.

A few lines of our own, because a logging library's 3.5 MB of memory would be a fifth of each sidecar's. Everyone else
is handed `Report`: the relay's thread and the control plane need nothing more than a level and a sentence. (Requests
are not logged here: see `access_log.py`.)
"""

from __future__ import annotations

import json
import re
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from sslterm.output import Output
from sslterm.settings import LogFormat

Report = Callable[[str, str], None]
"""`report(level, message)`, from any thread; level is TRACE, DEBUG, INFO, WARNING or ERROR."""

_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, what turns the direction of writing around (UAX 9), and surrogates."""


_STANDARD_ERROR: Final = 2
_MOST_WAITING: Final = 1024 * 1024
"""Bytes; what is said while so much waits for a reader is lost, since nobody may be kept waiting by it."""


class Log:
    """Writes what is said at `level` or above, in the form `form`."""

    def __init__(self, level: str, form: LogFormat) -> None:
        self._least = _LEVELS.index(level)
        self._line = _json_line if form is LogFormat.JSON else _text_line
        self._output = Output(_STANDARD_ERROR)
        self._one_at_a_time = threading.Lock()

    def report(self, level: str, message: str, trace: str = "") -> None:
        """Say `message`, with the traceback `trace` of a defect. Any thread."""
        if _LEVELS.index(level) < self._least:
            return
        line = self._line(datetime.now(UTC), level, message, trace).encode(errors="backslashreplace")
        with self._one_at_a_time:
            if self._output.waiting < _MOST_WAITING:
                self._output.put(line)

    def report_crash(self, error: BaseException) -> None:
        """A defect of ours: the error and where it came from; source lines only, never the values of variables."""
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]  # the task group that it passed through says nothing
        self.report("ERROR", f"unexpected {type(error).__name__}: {error}", "".join(traceback.format_exception(error)))

    def close(self) -> None:
        """Write what is left."""
        self._output.close()


def _text_line(time: datetime, level: str, message: str, trace: str) -> str:
    printable = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], message)
    name = "WARN" if level == "WARNING" else level
    return f"{time:%Y-%m-%dT%H:%M:%SZ} {name:<5} {printable}\n{trace}"


def _json_line(time: datetime, level: str, message: str, trace: str) -> str:
    stamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    name = "warn" if level == "WARNING" else level.lower()
    fields = {"time": stamp, "level": name, "message": message}
    if trace:
        fields["traceback"] = trace
    return json.dumps(fields) + "\n"
