"""Log lines: text for people, or one JSON object each."""

import json

import pytest
from loguru import logger

from byfahrer import logs


@pytest.fixture(autouse=True)
def _restore():
    yield
    logger.remove()


def test_text_has_time_level_and_message(capsys):
    logs.configure("info", "text")
    logger.debug("hidden")
    logger.info("said {}", "so")
    (line,) = capsys.readouterr().err.splitlines()

    assert line.endswith(" INFO    said so")


def test_text_is_one_line_for_each_message_and_steers_no_terminal(capsys):
    logs.configure("info", "text")
    logger.info("{}", "x\n2026 INFO forged \x1b[31m \u2028 \u202e \ud800 {braces} <b>")
    try:
        raise ValueError("one\n2026 INFO forged\x1b[2J")
    except ValueError as error:
        logger.opt(exception=error).error("a bug")
    first, *others = capsys.readouterr().err.splitlines()

    assert first.endswith(" INFO    x\\n2026 INFO forged \\x1b[31m \\u2028 \\u202e \\ud800 {braces} <b>")
    assert others[0].endswith("a bug")
    assert all(line.startswith("    ") for line in others[1:])
    assert "\x1b" not in "".join(others)


def test_json_is_one_object_a_line_whatever_is_said(capsys):
    logs.configure("warn", "json")
    logger.warning("{} {}", "two\nlines", "<b>{braces}</b>")
    try:
        raise ValueError("why")
    except ValueError as error:
        logger.opt(exception=error).error("a bug")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())

    assert (first["level"], first["message"]) == ("warning", "two\nlines <b>{braces}</b>")
    assert second["exception"] == "ValueError('why')"
    assert set(first) == {"time", "level", "message"}
