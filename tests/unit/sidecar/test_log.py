"""Log lines: always one, always readable by whoever parses them."""

from __future__ import annotations

import json
import re

import pytest
from loguru import logger

from sslterm import log
from sslterm.settings import LogFormat


@pytest.fixture(autouse=True)
def _loguru_as_it_was():
    yield
    logger.remove()


def read(capfd):
    """All that was said."""
    log.close()
    return capfd.readouterr()


def test_text_is_time_level_message(capfd):
    report = log.configure("INFO", LogFormat.TEXT)
    report("INFO", "a {b} <c> %d")
    report("WARNING", "w")
    said = re.sub(r"(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "T", read(capfd).err)

    assert said == "T INFO  a {b} <c> %d\nT WARN  w\n"


def test_json_has_stable_names(capfd):
    report = log.configure("DEBUG", LogFormat.JSON)
    report("ERROR", 'quote " and\nbreak')
    line = read(capfd).err
    record = json.loads(line)

    assert line.count("\n") == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert record == {"level": "error", "message": 'quote " and\nbreak'}


def test_below_the_level_nothing_is_said(capfd):
    report = log.configure("ERROR", LogFormat.TEXT)
    report("WARNING", "no")

    assert read(capfd).err == ""


def test_a_message_cannot_forge_a_line_or_colour_a_terminal(capfd):
    report = log.configure("INFO", LogFormat.TEXT)
    report("INFO", "a\nb\x1b[31mc\u2028d\udc80é")

    assert read(capfd).err.split("INFO  ")[1] == "a\\nb\\x1b[31mc\\u2028d\\udc80é\n"


@pytest.mark.parametrize("form", LogFormat)
def test_a_crash_shows_where_but_no_values(form, capfd):
    log.configure("INFO", form)

    def fail(secret):
        raise KeyError("what")

    try:
        fail("hunter2")
    except KeyError as error:
        log.report_crash(error)
    said = read(capfd).err

    assert "unexpected KeyError: 'what'" in said
    assert "in fail" in said
    assert "hunter2" not in said.replace('fail("hunter2")', "").replace('fail(\\"hunter2\\")', "")


def test_a_crash_in_a_task_is_told_as_what_it_was(capfd):
    log.configure("INFO", LogFormat.JSON)
    log.report_crash(ExceptionGroup("tasks", [ExceptionGroup("inner", [KeyError("what")])]))

    assert json.loads(read(capfd).err)["message"] == "unexpected KeyError: 'what'"


def test_a_closed_stderr_ends_nothing(monkeypatch):
    report = log.configure("INFO", LogFormat.TEXT)

    class Broken:
        def write(self, data):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", type("E", (), {"buffer": Broken()})())
    report("INFO", "nobody reads this")
