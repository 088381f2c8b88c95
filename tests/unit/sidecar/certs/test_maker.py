"""The way to the child process: it is there ahead, it works, it fails in one line, it does not stay."""

from __future__ import annotations

import pytest

from sslterm.certs import maker as module
from sslterm.certs.maker import Maker, MakerError

ORDER = {"common_name": "x", "dns": ["x"], "addresses": [], "days": 1}


def test_the_child_started_ahead_is_the_one_that_works_and_the_next_is_started_when_needed():
    with Maker.ahead(wanted=True) as maker:
        child = maker._waiting
        first, second = maker.make(ORDER), maker.make(ORDER)

        assert child.returncode == 0
    assert first["key"] != second["key"]
    assert first["chain"].startswith("-----BEGIN CERTIFICATE-----")


def test_a_child_that_was_not_needed_is_gone_at_the_end():
    with Maker.ahead(wanted=True) as maker:
        child = maker._waiting

    assert child.returncode is not None


def test_none_is_started_unless_wanted():
    with Maker.ahead(wanted=False) as maker:
        assert maker._waiting is None


def test_a_failing_child_is_one_line(monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("raise ModuleNotFoundError('no cryptography here')")
    monkeypatch.setattr(module, "_CHILD", child)
    with pytest.raises(MakerError) as error:
        Maker().make(ORDER)

    assert str(error.value) == "the child process failed: ModuleNotFoundError: no cryptography here"


def test_a_child_that_cannot_be_started_is_one_line(monkeypatch):
    def no_descriptor_left(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module.subprocess, "Popen", no_descriptor_left)
    with pytest.raises(MakerError, match="the child process cannot be started: Too many open files"):
        Maker().make(ORDER)


def test_a_child_that_hangs_is_killed(monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("import signal; signal.pause()")
    monkeypatch.setattr(module, "_CHILD", child)
    monkeypatch.setattr(module, "_TIMEOUT", 0.1)
    with pytest.raises(MakerError, match="did not finish"):
        Maker().make(ORDER)
