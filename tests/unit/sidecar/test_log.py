"""Log lines: always one, always readable by whoever parses them."""

from __future__ import annotations

import json
import os
import re

import pytest

from sslterm.log import Log
from sslterm.settings import LogFormat


def said_by(log, capfd):
    """All that was said."""
    log.close()
    return capfd.readouterr().err


def test_text_is_time_level_message(capfd):
    log = Log("INFO", LogFormat.TEXT)
    log.report("INFO", "a {b} <c> %d")
    log.report("WARNING", "w")
    said = re.sub(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "T", said_by(log, capfd))

    assert said == "T INFO  a {b} <c> %d\nT WARN  w\n"


def test_json_has_stable_names(capfd):
    log = Log("DEBUG", LogFormat.JSON)
    log.report("ERROR", 'quote " and\nbreak')
    line = said_by(log, capfd)
    record = json.loads(line)

    assert line.count("\n") == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {"level": "error", "message": 'quote " and\nbreak'}


def test_below_the_level_nothing_is_said(capfd):
    log = Log("ERROR", LogFormat.TEXT)
    log.report("WARNING", "no")

    assert said_by(log, capfd) == ""


def test_a_message_cannot_forge_a_line_or_colour_a_terminal(capfd):
    log = Log("INFO", LogFormat.TEXT)
    log.report("INFO", "a\nb\x1b[31mc\u2028d\udc80é")

    assert said_by(log, capfd).split("INFO  ")[1] == "a\\nb\\x1b[31mc\\u2028d\\udc80é\n"


@pytest.mark.parametrize("form", LogFormat)
def test_a_crash_shows_where_but_no_values(form, capfd):
    log = Log("INFO", form)

    def fail(secret):
        raise KeyError("what")

    try:
        fail("hunter2")
    except KeyError as error:
        log.report_crash(error)
    said = said_by(log, capfd)

    assert "unexpected KeyError: 'what'" in said
    assert "in fail" in said
    assert "hunter2" not in said.replace('fail("hunter2")', "").replace('fail(\\"hunter2\\")', "")


def test_a_crash_in_a_task_is_told_as_what_it_was(capfd):
    log = Log("INFO", LogFormat.JSON)
    log.report_crash(ExceptionGroup("tasks", [ExceptionGroup("inner", [KeyError("what")])]))

    assert json.loads(said_by(log, capfd))["message"] == "unexpected KeyError: 'what'"


def test_a_closed_stderr_ends_nothing(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("sslterm.log._STANDARD_ERROR", writer)
    log = Log("INFO", LogFormat.TEXT)
    log.report("INFO", "nobody reads this")
    log.close()
    os.close(writer)
