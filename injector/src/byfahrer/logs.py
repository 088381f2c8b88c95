"""Where log lines go, and their form. Called once, by the command line."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING

from loguru import logger

from byfahrer.model import one_line

if TYPE_CHECKING:
    from loguru import Record

LEVELS = {"trace": "TRACE", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR"}


def configure(level: str, form: str) -> None:
    """Log to stderr, as text or as one JSON object a line."""
    logger.remove()
    if form == "json":
        logger.add(sys.stderr, level=LEVELS[level], format=_json, backtrace=False, diagnose=False)
    else:
        # diagnose prints the values of variables: never in a service.
        logger.add(sys.stderr, level=LEVELS[level], format=_text, backtrace=False, diagnose=False)


def _text(record: Record) -> str:
    # Names and texts of others are in it: they must not look like further lines, nor steer a terminal.
    lines = [one_line(record["message"])]
    error = record["exception"]
    if error is not None:
        told = "".join(traceback.format_exception(error.type, error.value, error.traceback))
        lines += [f"    {one_line(line)}" for line in told.splitlines()]
    record["extra"]["line"] = "\n".join(lines)
    return "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {extra[line]}\n"


def _json(record: Record) -> str:
    fields = {
        "time": record["time"].isoformat(timespec="milliseconds"),
        "level": record["level"].name.lower(),
        "message": record["message"],
        **record["extra"],
    }
    if record["exception"] is not None:
        fields["exception"] = repr(record["exception"].value)
    # What is returned is a format itself: the line must go in as a value.
    record["extra"]["line"] = json.dumps(fields, default=str)
    return "{extra[line]}\n"
