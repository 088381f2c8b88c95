"""
What the sidecar says about itself: one line per event on stderr, as text or JSON.

The only module that knows loguru. Everyone else is handed `Report`, because the relay's thread and the control plane
need nothing more than a level and a sentence. (Requests are not logged here: see `access_log.py`.)
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from loguru import logger

from sslterm.output import Output
from sslterm.settings import LogFormat

if TYPE_CHECKING:
    import loguru

Report = Callable[[str, str], None]
"""`report(level, message)`, from any thread; level is TRACE, DEBUG, INFO, WARNING or ERROR."""

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


_STANDARD_ERROR: Final = 2
_MOST_WAITING: Final = 1024 * 1024
"""Bytes; what is said while so much waits for a reader is lost, since nobody may be kept waiting by it."""


class _Sink:
    """What loguru calls a sink: takes messages one at a time, and `stop` when it is removed."""

    def __init__(self, form: LogFormat) -> None:
        self._line = _json_line if form is LogFormat.JSON else _text_line
        self._output = Output(_STANDARD_ERROR)

    def write(self, message: loguru.Message) -> None:
        if self._output.waiting < _MOST_WAITING:
            self._output.put(self._line(message.record).encode(errors="backslashreplace"))

    def stop(self) -> None:
        self._output.close()


def configure(level: str, form: LogFormat) -> Report:
    """Send what is reported at `level` or above to stderr, until `close`."""
    logger.remove()
    # loguru asks for `TextIO`, and says in its documentation that an object with `write` will do.
    logger.add(cast("TextIO", _Sink(form)), level=level, format="{message}")
    return logger.log


def close() -> None:
    """Write what is left."""
    logger.remove()


def report_crash(error: BaseException) -> None:
    """A defect of ours: the error and where it came from; source lines only, never the values of variables."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # the task group that it passed through says nothing
    logger.opt(exception=error).error(f"unexpected {type(error).__name__}: {error}")


def _level(record: loguru.Record) -> str:
    name = record["level"].name
    return "WARN" if name == "WARNING" else name


def _text_line(record: loguru.Record) -> str:
    message = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], record["message"])
    time = record["time"].astimezone(UTC)
    return f"{time:%Y-%m-%dT%H:%M:%SZ} {_level(record):<5} {message}\n{_traceback(record)}"


def _json_line(record: loguru.Record) -> str:
    time = record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, Any] = {"time": time, "level": _level(record).lower(), "message": record["message"]}
    if record["exception"]:
        fields["traceback"] = _traceback(record)
    return json.dumps(fields) + "\n"


def _traceback(record: loguru.Record) -> str:
    caught = record["exception"]
    return "".join(traceback.format_exception(*caught)) if caught else ""
