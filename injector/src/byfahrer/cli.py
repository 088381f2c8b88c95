"""
The command line. The only place that reads the environment and exits.

Exit codes: 0 done, or stopped when asked; 2 bad configuration, said in one line; 1 everything else.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, NoReturn

import anyio
import click
from click.core import ParameterSource

from byfahrer import (
    __version__,
    cli_ca,
    cli_doctor,
    cli_render,
    cli_swarm,
    daemon,
    labels,
    logs,
    manual,
    options,
    rehearse,
    settings,
    status,
    trust,
)
from byfahrer.ask import ask, first, setting
from byfahrer.authority.errors import AuthorityError
from byfahrer.engine.address import DEFAULT_HOST, EngineAddress
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.errors import AddressError, EngineError
from byfahrer.model import Container, one_line
from byfahrer.reconcile.reconciler import PassingError, UnmetError
from byfahrer.serving.client import get
from byfahrer.serving.errors import SocketError


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  byfahrer run                                  serve this engine's labelled containers
  docker run -d --name www -p 8081:8081 --label byfahrer.proxy-image=sslterm httpcheck
  byfahrer ps                                   who has a sidecar, and who has none and why
  byfahrer inject db --set mode=tcp --set frontend=:6380 --set backend=:6379
  byfahrer eject --all                          remove every sidecar again
  byfahrer doctor                               is everything as it has to be, and what is to be done if not
  byfahrer run --dry-run                        what it would do now
  byfahrer render www > sidecar.yaml            the sidecar of www as a service of a compose file
""",
)
@click.version_option(__version__, prog_name="byfahrer", message="%(prog)s %(version)s")
@click.option(
    "--docker-host", metavar="URL", default="", envvar=["BYFAHRER_DOCKER_HOST", "DOCKER_HOST"],
    help=f"The engine's address.  [default: {DEFAULT_HOST}]",
)  # fmt: skip
@click.option(
    "--log-level", type=click.Choice(list(logs.LEVELS), case_sensitive=False), default="info", show_default=True,
    envvar=["BYFAHRER_LOG_LEVEL", "LOG_LEVEL"], help="How much to say on stderr.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    envvar="BYFAHRER_LOG_FORMAT", help="Form of what is said there.",
)  # fmt: skip
@click.pass_context
def cli(context: click.Context, docker_host: str, log_level: str, log_format: str) -> None:
    """
    Give every labelled Docker container its TLS sidecar, and take it away again.

    A container with the label byfahrer.proxy-image=sslterm gets a container NAME-proxy in its network namespace, which
    serves HTTPS on :8081 in front of 127.0.0.1:8080. Labels byfahrer.frontend, byfahrer.backend, byfahrer.mode, …
    change that.
    """
    logs.configure(log_level.lower(), log_format)
    context.obj = docker_host
    if context.invoked_subcommand is None:
        # The program of 2017 knew no commands: its flag alone means run.
        if context.get_parameter_source("docker_host") is ParameterSource.COMMANDLINE:
            # Not context.invoke, which knows defaults but no environment.
            with run.make_context("run", [], parent=context) as alone:
                run.invoke(alone)
        else:
            click.echo(context.get_help())


@cli.command()
@click.option(
    "--allow-image", multiple=True, default=settings.ALLOW_IMAGES, show_default=True, metavar="PATTERN",
    envvar="BYFAHRER_ALLOW_IMAGE",
    help="Images that may be sidecars; * stands for anything but a slash. May be repeated; replaces the default.",
)  # fmt: skip
@options.sidecar
@click.option(
    "--resync", default=settings.RESYNC, show_default=True, metavar="DURATION",
    envvar="BYFAHRER_RESYNC", help="How often to list what has changed, in case an event was lost.",
)  # fmt: skip
@options.admin_addr
@options.peers
@options.signing
@options.place
@click.option("--dry-run", is_flag=True, help="Print what would be done now, do nothing, and exit.")
@click.option(
    "--observe", is_flag=True, envvar="BYFAHRER_OBSERVE",
    help="Watch and say what would be done: for an engine where nothing may be changed.",
)  # fmt: skip
@click.pass_obj
def run(
    docker_host: str,
    /,
    allow_image: tuple[str, ...],
    resync: str,
    admin_addr: str,
    peers: str,
    dry_run: bool,
    observe: bool,
    **more: Any,  # noqa: ANN401 - all that `options.policy` and `options.authority` take
) -> None:
    """
    Serve this engine until stopped.

    Containers that already run get their sidecars at once; an engine that is away is waited for. Stopping leaves the
    sidecars running.

    \b
    Examples:
      byfahrer run
      byfahrer run --allow-image sslterm --allow-image 'registry.example.com/tls/*'
      byfahrer run --only-label com.docker.compose.project=shop
      byfahrer run --trust-domain example.org --leaf-lifetime 1h
      byfahrer run --dry-run
      byfahrer --docker-host unix:///run/byfahrer-engine/docker.sock run --observe
      docker run -d -v /var/run/docker.sock:/var/run/docker.sock \\
          -v byfahrer:/var/lib/byfahrer -v byfahrer-run:/run/byfahrer byfahrer
    """
    flags = options.told(more | {"allow_image": allow_image})
    policy = options.policy(more, allow_image=allow_image, own_id=options.own_id())
    made = options.authority(**more)
    chosen = settings.Settings(
        policy=policy,
        authority=made,
        admin=options.admin(admin_addr, more["state_dir"], made),
        peers=settings.peers(peers, made),
        resync=settings.resync(resync),
        flags=flags,
        act=not observe,
    )
    if dry_run:
        _rehearse(docker_host, chosen)
        return
    directory = daemon.directory(chosen)
    engine = DockerEngine(EngineAddress.resolve(docker_host, os.environ), look_only=observe, directory=directory)
    try:
        anyio.run(daemon.run, engine, chosen, directory)
    except BaseExceptionGroup as group:
        raise first(group) from group


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="A list of objects instead of a table.")
@options.allow_image
@options.sidecar
@options.admin_addr
@options.place
@click.pass_obj
def ps(
    docker_host: str,
    /,
    *,
    as_json: bool,
    admin_addr: str,
    **more: Any,  # noqa: ANN401 - all that `options.policy` and `options.authority` take
) -> None:
    """
    List targets and their sidecars; those without one, with the reason.

    What only a byfahrer that runs can know (what sidecars report, what went wrong, its flags) is asked on its socket.

    \b
    Examples:
      byfahrer ps
      byfahrer ps --json | jq -r '.[] | select(.state != "running") | .target'
    """
    socket = options.admin(admin_addr, more["state_dir"])
    answer = get(socket, "/status") if socket else None
    options.as_daemon(more, answer)
    policy = options.policy(more, allow_image=more.pop("allow_image"))
    chosen = options.authority(**more)
    told = status.told(answer)

    async def look(engine: DockerEngine) -> list[status.Row]:
        trusting = await manual.with_authority(engine, policy, chosen, options.own_id())
        return await status.rows(engine, trusting, manual.certificates(chosen), told)

    found = ask(docker_host, look, state_dir=more["state_dir"])
    if as_json:
        click.echo(json.dumps([row.as_json() for row in found], indent=2))
    else:
        click.echo(status.table(found, time.time()))
    if socket and answer is None and found:
        click.echo(f"no byfahrer answers at {socket}: health, bypass and problems are not known", err=True)


@cli.command()
@click.argument("name")
@click.option("--image", metavar="IMAGE", help="The sidecar's image.  [default: sslterm, unless NAME has labels]")
@click.option(
    "--set", "chosen", multiple=True, metavar="SETTING=VALUE", help="A setting, as the label byfahrer.SETTING would."
)
@options.sidecar
@options.place
@click.pass_obj
def inject(
    docker_host: str,
    /,
    name: str,
    image: str | None,
    chosen: tuple[str, ...],
    **more: Any,  # noqa: ANN401 - all that `options.policy` and `options.authority` take
) -> None:
    """
    Give the running container NAME a sidecar by hand, labels or not.

    A byfahrer that runs keeps it there until NAME stops.

    \b
    Examples:
      byfahrer inject www
      byfahrer inject db --set mode=tcp --set frontend=:6380 --set backend=:6379
    """
    policy = options.policy(more)
    values = dict(setting(text) for text in chosen)

    chosen_authority = options.authority(**more)

    async def act(engine: DockerEngine) -> Container:
        own = not image and not values and await manual.labelled(engine, name)
        wish = {} if own else labels.wish_by_hand(image or "sslterm", values)
        token = manual.token_maker(chosen_authority)
        trusting = await manual.with_authority(engine, policy, chosen_authority if token else None, options.own_id())
        return await manual.inject(engine, trusting, name, wish, token)

    sidecar = ask(docker_host, act, state_dir=more["state_dir"])
    front, back = labels.addresses(sidecar.env)
    click.echo(f"{sidecar.name} runs in the network of {name}: {front} -> {back}")


@cli.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every sidecar on this engine that byfahrer made.")
@options.only_label
@click.pass_obj
def eject(docker_host: str, names: tuple[str, ...], *, everything: bool, only_label: tuple[str, ...]) -> None:
    """
    Remove the sidecars of the containers NAME, after requests under way.

    \b
    Examples:
      byfahrer eject www
      byfahrer eject --all
    """
    if everything == bool(names):
        raise click.UsageError("name the containers, or give --all")
    policy = settings.policy(only_label=only_label)

    async def act(engine: DockerEngine) -> list[manual.Ejected]:
        if everything:
            return await manual.eject_all(engine, policy)
        return [each for name in names for each in await manual.eject(engine, name)]

    gone = ask(docker_host, act)
    for each in gone:
        click.echo(f"{each.sidecar} removed")
        if each.asked_for:
            click.echo(f"{each.target} asks for it by label: a byfahrer that runs puts it back", err=True)
    if everything and not gone:
        click.echo("no sidecars here")


@cli.command("trust")
@click.argument("name")
@options.state_dir
@options.issuer
@options.ca_file
@click.pass_obj
def trust_command(docker_host: str, name: str, state_dir: str, ca_cert: str, ca_file: str) -> None:
    """
    Have the programs in container NAME believe the authority: put its root into the system store there.

    For as long as that container exists. Programs with a store of their own (Java, Firefox, some of Python's) are told
    in their own ways; `byfahrer ca root` prints the root for them. Roots from before a rotation are not taken out.

    \b
    Examples:
      byfahrer trust shop
      docker exec shop curl https://www/
    """
    roots = trust.roots(options.state_folder(state_dir), ca_cert, ca_file)

    async def act(engine: DockerEngine) -> list[str]:
        return await trust.trust(engine, await manual.find(engine, name), roots)

    written = ask(docker_host, act, state_dir=state_dir)
    for path in written:
        click.echo(f"{name}:{path} written")
    if not written:
        click.echo(f"{name} has it already")


cli.add_command(cli_ca.ca)
cli.add_command(cli_doctor.doctor)
cli.add_command(cli_render.render)
cli.add_command(cli_swarm.swarm)


def _rehearse(docker_host: str, chosen: settings.Settings) -> None:
    async def look(engine: DockerEngine) -> list[rehearse.Target]:
        policy = await manual.with_authority(engine, chosen.policy, chosen.authority, chosen.policy.own_id)
        return await rehearse.rehearse(engine, policy)

    state_dir = str(chosen.authority.state_dir) if chosen.authority else ""
    found = ask(docker_host, look, look_only=True, state_dir=state_dir)
    for each in found:
        for line in each.lines:
            click.echo(line)
    if not found:
        click.echo("nothing to do")


def main() -> NoReturn:
    """Run, and turn whatever happens into an exit code and at most one line."""
    try:
        code = cli.main(prog_name="byfahrer", standalone_mode=False) or 0
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "byfahrer"
        text = _misplaced(error) or f"{error.format_message().rstrip('.')} (see {command} --help)"
        code = _complain(2, text)
    except (settings.SettingError, AddressError, AuthorityError, SocketError) as error:
        code = _complain(2, str(error))
    except (EngineError, PassingError, UnmetError, manual.ManualError, trust.TrustError) as error:
        code = _complain(1, str(error))
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 1
    _exit(code)


def _misplaced(error: click.UsageError) -> str:
    """What to say of an option that its command does not know, but byfahrer itself does."""
    known = {text for each in cli.params for text in each.opts}
    if isinstance(error, click.NoSuchOption) and error.option_name in known and error.ctx is not None:
        command = error.ctx.command_path.removeprefix("byfahrer ")
        return f"{error.option_name} goes before the command: byfahrer {error.option_name} … {command}"
    return ""


def _complain(code: int, text: str) -> int:
    click.echo(f"byfahrer: {one_line(text)}", err=True)
    return code


def _exit(code: int) -> NoReturn:
    """Exit now. A thread that waits for a hung engine would keep the interpreter alive until its timeout."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
