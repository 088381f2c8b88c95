"""The command line by itself; what needs an engine is in tests/engine."""

import pytest
from click.testing import CliRunner

from byfahrer import __version__, cli


@pytest.fixture
def ran(monkeypatch):
    """What `run` would have served, instead of serving."""
    seen = []
    monkeypatch.setattr(cli.anyio, "run", lambda function, *args: seen.append(args))
    return seen


def invoke(*arguments, **env):
    return CliRunner().invoke(cli.cli, arguments, env=env, catch_exceptions=False)


def test_version_and_help_name_the_commands_and_teach_by_example():
    assert invoke("--version").output == f"byfahrer {__version__}\n"
    for arguments in ((), ("--help",), ("run", "--help"), ("ps", "-h"), ("inject", "-h"), ("eject", "-h")):
        done = invoke(*arguments)

        assert done.exit_code == 0
        assert "Examples:" in done.output


def test_the_flag_of_2017_alone_means_run(ran):
    invoke("--docker-host", "tcp://127.0.0.1:1")
    invoke(DOCKER_HOST="tcp://127.0.0.1:1")

    assert len(ran) == 1
    assert ran[0][0].where == "tcp://127.0.0.1:1"


def test_flags_win_over_the_environment_and_that_over_defaults(ran):
    invoke("run")
    env = {
        "BYFAHRER_ALLOW_IMAGE": "a,b", "BYFAHRER_ONLY_LABEL": "k=v", "BYFAHRER_RESYNC": "5s",
        "BYFAHRER_SIDECAR_MEMORY": "64m", "BYFAHRER_SIDECAR_USER": "1:1", "BYFAHRER_DOCKER_HOST": "tcp://h:1",
        "DOCKER_HOST": "tcp://other:1",
    }  # fmt: skip
    invoke("run", **env)
    invoke("run", "--allow-image", "c", "--resync", "7s", **env)
    (_, default), (engine, environment), (_, flags) = ran

    assert [str(each) for each in default.policy.allow_images] == ["sslterm*", "gosslterm*", "qnib/gosslterm*"]
    assert default.resync == 30
    assert [str(each) for each in environment.policy.allow_images] == ["a", "b"]
    assert (environment.policy.only_labels, environment.resync) == ((("k", "v"),), 5)
    assert (environment.policy.sidecar_memory, environment.policy.sidecar_user) == (64 << 20, "1:1")
    assert engine.where == "tcp://h:1"
    assert [str(each) for each in flags.policy.allow_images] == ["c"]
    assert flags.resync == 7


@pytest.mark.parametrize("arguments", [["bogus"], ["run", "--bogus"], ["run", "--resync", "x"], ["eject"]])
def test_main_ends_with_2_and_one_line(monkeypatch, capsys, arguments):
    monkeypatch.setattr(cli.sys, "argv", ["byfahrer", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()

    assert ended.value.code == 2
    assert (said.out, said.err.count("\n")) == ("", 1)
