"""The command line by itself; what needs an engine is in tests/engine."""

import json

import pytest
from click.testing import CliRunner

from byfahrer import __version__, cli, status


@pytest.fixture
def ran(monkeypatch):
    """What `run` would have served, instead of serving."""
    seen = []
    monkeypatch.setattr(cli.anyio, "run", lambda function, *args: seen.append(args[:2]))
    return seen


def invoke(*arguments, **env):
    return CliRunner().invoke(cli.cli, arguments, env=env, catch_exceptions=False)


def test_version_and_help_name_the_commands_and_teach_by_example():
    assert invoke("--version").output == f"byfahrer {__version__}\n"
    for arguments in (
        (),
        ("--help",),
        ("run", "--help"),
        ("ps", "-h"),
        ("inject", "-h"),
        ("eject", "-h"),
        ("trust", "-h"),
    ):
        done = invoke(*arguments)

        assert done.exit_code == 0
        assert "Examples:" in done.output


def test_the_flag_of_2017_alone_means_run(ran):
    invoke("--docker-host", "tcp://127.0.0.1:1", BYFAHRER_ONLY_LABEL="k=v")
    invoke(DOCKER_HOST="tcp://127.0.0.1:1")

    assert len(ran) == 1
    assert ran[0][0].where == "tcp://127.0.0.1:1"
    assert ran[0][1].policy.only_labels == (("k", "v"),)


def test_flags_win_over_the_environment_and_that_over_defaults(ran):
    invoke("run")
    env = {
        "BYFAHRER_ALLOW_IMAGE": "a,b", "BYFAHRER_ONLY_LABEL": "k=v", "BYFAHRER_RESYNC": "5s",
        "BYFAHRER_SIDECAR_MEMORY": "64m", "BYFAHRER_SIDECAR_PIDS": "32:48", "BYFAHRER_SIDECAR_CPUS": "1",
        "BYFAHRER_ALLOW_CAPABILITY": "NET_RAW CHOWN", "BYFAHRER_PULL": "never",
        "BYFAHRER_SIDECAR_LOG_DRIVER": "local", "BYFAHRER_SIDECAR_LOG_OPT": "max-size=1m labels=a,b",
        "BYFAHRER_SIDECAR_USER": "1:1", "BYFAHRER_DOCKER_HOST": "tcp://h:1",
        "DOCKER_HOST": "tcp://other:1",
    }  # fmt: skip
    invoke("run", **env)
    invoke("run", "--allow-image", "c", "--resync", "7s", **env)
    (_, default), (engine, environment), (_, flags) = ran

    assert [str(each) for each in default.policy.allow_images] == ["sslterm*", "gosslterm*", "qnib/gosslterm*"]
    assert default.resync == 30
    assert [str(each) for each in environment.policy.allow_images] == ["a", "b"]
    assert (environment.policy.only_labels, environment.resync) == ((("k", "v"),), 5)
    assert (environment.policy.limits.pids.most, environment.policy.limits.cpus.default) == (48, 10**9)
    assert environment.policy.limits.capabilities == {"NET_RAW", "CHOWN"}
    assert (environment.policy.pull, environment.policy.log.driver) == ("never", "local")
    assert dict(environment.policy.log.options) == {"max-size": "1m", "labels": "a,b"}
    assert (environment.policy.limits.memory.default, environment.policy.sidecar_user) == (64 << 20, "1:1")
    assert engine.where == "tcp://h:1"
    assert [str(each) for each in flags.policy.allow_images] == ["c"]
    assert flags.resync == 7


@pytest.mark.parametrize(
    ("answer", "rows", "options", "told"),
    [
        (None, 1, (), True),
        (None, 0, (), False),
        ({}, 1, (), False),
        (None, 1, ("--admin-addr", "none"), False),
    ],
)
def test_ps_tells_that_no_daemon_answers_where_there_is_one_to_be(monkeypatch, tmp_path, answer, rows, options, told):
    found = [status.Row(target="www", target_id="1", state="running")] * rows
    monkeypatch.setattr(cli, "get", lambda *_: answer)
    monkeypatch.setattr(cli, "ask", lambda *_, **more: found)
    done = invoke("ps", "--json", "--state-dir", str(tmp_path), *options)

    assert done.exit_code == 0
    assert len(json.loads(done.stdout)) == rows
    line = f"no byfahrer answers at {tmp_path}/admin.sock: health, bypass and problems are not known\n"
    assert done.stderr == (line if told else "")


@pytest.mark.parametrize("arguments", [["bogus"], ["run", "--bogus"], ["run", "--resync", "x"], ["eject"]])
def test_main_ends_with_2_and_one_line(monkeypatch, capsys, arguments):
    monkeypatch.setattr(cli.sys, "argv", ["byfahrer", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()

    assert ended.value.code == 2
    assert (said.out, said.err.count("\n")) == ("", 1)


def test_an_option_after_its_command_is_told_where_it_goes(monkeypatch, capsys):
    monkeypatch.setattr(cli.sys, "argv", ["byfahrer", "ca", "ls", "--log-level", "debug"])
    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    line = "byfahrer: --log-level goes before the command: byfahrer --log-level … ca ls\n"
    assert capsys.readouterr().err == line


def test_the_authority_is_configured_by_flags_or_the_environment_or_not_at_all(ran, tmp_path):
    env = {
        "BYFAHRER_RUN_DIR": "/run/x", "BYFAHRER_STATE_DIR": str(tmp_path), "BYFAHRER_LEAF_LIFETIME": "1h",
        "BYFAHRER_TRUST_DOMAIN": "example.org", "BYFAHRER_PERMIT_DNS": "a b", "BYFAHRER_AUTHORITY": "on",
    }  # fmt: skip
    invoke("run", **env)
    invoke("run", "--leaf-lifetime", "2h", "--state-dir", "/var/y", "--permit-dns", "c", **env)
    invoke("run", "--authority", "off", **env)
    environment, flags, off = (chosen.authority for _, chosen in ran)

    assert (str(environment.run_dir), environment.state_dir) == ("/run/x", tmp_path)
    assert (environment.leaf_lifetime, environment.trust_domain) == (3600, "example.org")
    assert environment.permit_dns == ("a", "b")
    assert (flags.leaf_lifetime, str(flags.state_dir), flags.permit_dns) == (7200, "/var/y", ("c",))
    assert off is None


def test_a_state_folder_that_is_none_ends_it_with_2_and_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cli.sys, "argv", ["byfahrer", "run", "--state-dir", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()

    assert ended.value.code == 2
    assert said.err == f"byfahrer: {tmp_path / 'file'}: expected a folder for byfahrer's state\n"
