"""Flags that commands share with the daemon, and which of them count."""

import click
import pytest

from byfahrer import options, settings


@click.command()
@options.allow_image
@options.sidecar
@options.place
@click.pass_context
def command(context, **given):
    options.as_daemon(given, context.obj)
    context.obj = given


def given(answer, *arguments, **env):
    """What a command goes by, where the daemon said this."""
    seen = {}
    with command.make_context("x", list(arguments), obj=answer) as context:
        command.invoke(context)
        seen.update(context.obj)
    return seen


def test_the_daemons_flags_count_where_none_are_given(monkeypatch):
    flags = {"allow_capability": ["NET_RAW"], "sidecar_memory": "256m:1g", "allow_image": ["mine"], "authority": "off"}
    monkeypatch.setenv("BYFAHRER_SIDECAR_PIDS", "32")
    found = given({"flags": flags | {"sidecar_pids": "99"}}, "--allow-image", "own")

    assert (found["allow_capability"], found["sidecar_memory"]) == (("NET_RAW",), "256m:1g")
    assert (found["allow_image"], found["sidecar_pids"], found["authority"]) == (("own",), "32", "off")


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"flags": 1}, {"flags": {"pull": ["x"], "only_label": "x", "allow_image": [1], "state_dir": "/x"}}],
)
def test_a_daemon_that_says_nothing_of_use_changes_nothing(answer):
    found = given(answer)

    assert (found["pull"], found["only_label"], found["state_dir"]) == ("missing", (), "")
    assert found["allow_image"] == settings.ALLOW_IMAGES


def test_what_the_daemon_tells_makes_the_policy_that_it_has():
    own = given(None, "--only-label", "a=b", "--sidecar-log-opt", "token=secret", "--allow-capability", "CHOWN")
    told = options.told(own)
    again = given({"flags": {name: list(each) if isinstance(each, tuple) else each for name, each in told.items()}})

    assert "secret" not in str(told)
    own["sidecar_log_opt"] = ()
    assert options.policy(own) == options.policy(again)
