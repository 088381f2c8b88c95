"""The command line without a process: what is shown, what is refused, what is passed on."""

from __future__ import annotations

import pytest

from sslterm import __version__, cli
from sslterm.settings import specs


def test_help_shows_every_setting_with_its_variables_and_default(capsys):
    assert cli.main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for spec in specs():
        assert f"--{spec.name} " in shown
        assert spec.help in shown
        for variable in spec.variables:
            assert variable in shown
        assert spec.default is None or not spec.default or f"default {spec.default}]" in shown
    assert "check" in shown
    assert "Exit codes" in shown


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sslterm {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--nonsense=1"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["--cert"], "--cert"),
        (["--mode=udp"], "--mode='udp': expected http or tcp"),
        (["check", "--frontend-addr=x"], "--frontend-addr='x'"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(argv, named, capsys):
    assert cli.main(argv) == 2
    said = capsys.readouterr().err

    assert said.startswith("sslterm")
    assert named in said
    assert said.count("\n") == 1


def test_check_takes_the_flag_before_or_after_it(capsys):
    assert cli.main(["--listen-when=always", "--frontend-addr=127.0.0.1:1", "check"]) == 1
    assert cli.main(["--listen-when=always", "check", "--frontend-addr=127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == "sslterm check: 127.0.0.1 port 1: Connection refused\n" * 2
