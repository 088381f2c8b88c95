"""`byfahrer doctor`: is everything as it has to be, and if not, what is to be done?"""

from __future__ import annotations

import grp
import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from byfahrer import doctor as checks
from byfahrer import folders, options, settings, status
from byfahrer.ask import ask
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.errors import EngineError
from byfahrer.finding import OK, PROBLEM, Finding, bad
from byfahrer.plan import Policy
from byfahrer.serving.client import get


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A list of objects instead of lines.")
@options.allow_image
@options.sidecar
@options.admin_addr
@options.place
@click.pass_obj
def doctor(docker_host: str, /, *, as_json: bool, **more: Any) -> None:  # noqa: ANN401 - what the decorators add
    """
    Check the engine, our folders and every target; say what is wrong, and what to do about it.

    A byfahrer that answers says what flags it has; where none does, give it the flags and the environment of byfahrer
    run. Each line is ok, warning or problem; with a problem, the exit code is 1. It changes nothing.

    \b
    Examples:
      byfahrer doctor
      docker exec byfahrer byfahrer doctor
      byfahrer doctor --json | jq -r '.[] | select(.level == "problem") | .text'
    """
    own_id = options.own_id()
    admin = options.admin(more.pop("admin_addr"), more["state_dir"])
    answer = get(admin, "/status") if admin else None
    options.as_daemon(more, answer)
    policy = options.policy(more, allow_image=more.pop("allow_image"), own_id=own_id)
    chosen = options.authority(**more)
    # The folder is asked about where there is no authority too: a daemon has its own socket there.
    state = Path(chosen.state_dir if chosen else options.state_folder(more["state_dir"]))
    found: list[Finding] = []

    async def look(engine: DockerEngine) -> None:
        found.extend(await examine(engine, policy, chosen, None if answer is None else status.told(answer)))

    ask(docker_host, look, connect=False, state_dir=more["state_dir"])
    found += folders.state(state)
    if admin:
        found += folders.daemon(admin)
    if as_json:
        click.echo(json.dumps([each.as_json() for each in found], indent=2))
    else:
        click.echo("\n".join(map(str, found)))
    if bad(found):
        sys.exit(1)


async def examine(
    engine: DockerEngine, policy: Policy, chosen: settings.Authority | None, told: status.Told | None
) -> list[Finding]:
    """What there is to say of the engine, and of the folders that it shares with sidecars."""
    try:
        info = await engine.connect()
    except EngineError as error:
        return [Finding("engine", PROBLEM, f"{error}{_who_may(engine.where)}")]
    now = time.time()
    findings = [Finding("engine", OK, f"{engine.where} answers")]
    try:
        if chosen:
            mount, said = await folders.run(engine, chosen, policy.own_id, policy.sidecar_user)
            findings += [*said, *await folders.lasting(engine, chosen, policy.own_id)]
            policy = replace(policy, authority=mount)
        else:
            findings.append(Finding("authority", OK, "off: each sidecar signs its own certificate"))
        findings += await checks.examine(engine, info, policy, now=now, told=told)
    except EngineError as error:
        findings.append(Finding("engine", PROBLEM, str(error)))
    return findings


def _who_may(where: str) -> str:
    """Who could use a socket that we may not."""
    path = where.removeprefix("unix://")
    try:
        state = Path(path).stat()
    except OSError:  # it is not there, or not even to be seen
        return ""
    if path == where or os.access(path, os.R_OK | os.W_OK):
        return ""
    group = str(state.st_gid)
    with suppress(KeyError):
        group = grp.getgrgid(state.st_gid).gr_name
    return f"; we are user {os.geteuid()}, and it is for user {state.st_uid} and the group {group}"
