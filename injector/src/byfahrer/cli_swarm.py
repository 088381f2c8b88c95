"""`byfahrer swarm`: what the nodes of a Swarm have in common, made and rotated on a manager."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from byfahrer import cli_ca, options, settings
from byfahrer.ask import ask
from byfahrer.authority.ca import OVERLAP, SharedRoot, Terms, new_root, read_shared
from byfahrer.authority.issuer import fingerprint
from byfahrer.authority.times import moment, utc
from byfahrer.engine.errors import EngineError
from byfahrer.engine.swarm import ManagingEngine
from byfahrer.labels import SWARM_SERVICE

SECRET = "byfahrer-ca"  # noqa: S105 - its name
MARK = "byfahrer.ca"
"""Label of such a secret: the SHA-256 of its present root, which anybody may know."""
STACK = "com.docker.stack.namespace"


@click.group(
    epilog="""\b
Examples:
  docker run --rm -v /var/run/docker.sock:/var/run/docker.sock byfahrer swarm init
  docker stack deploy -c deploy/stack.yaml byfahrer
  docker exec "$(docker ps -qf label=com.docker.swarm.service.name=byfahrer_byfahrer)" byfahrer swarm rotate-ca
""",
)
def swarm() -> None:
    """
    One authority for all nodes of a Swarm, as a secret.

    Every node runs a byfahrer (deploy/stack.yaml), all of them sign with the same root, and those on managers tell the
    others what is on services.
    """


@swarm.command()
@click.option(
    "--secret", default="", metavar="NAME",
    help=f"What to call the secret, if there are to be several authorities.  [default: {SECRET}]",
)  # fmt: skip
@options.terms
@click.pass_obj
def init(docker_host: str, secret: str, trust_domain: str, permit_dns: tuple[str, ...]) -> None:
    """
    Make the authority that all nodes share, as a secret, and print how to start byfahrer on all of them.

    To be run on a manager, once. A secret that is there is kept; after a rotation, the newest one.

    \b
    Examples:
      byfahrer swarm init
      byfahrer swarm init --trust-domain example.org
    """
    chosen = settings.authority(
        run_dir=settings.RUN_DIR, state_dir="/", trust_domain=trust_domain, permit_dns=permit_dns
    )

    async def act(engine: ManagingEngine) -> tuple[str, str]:
        there = await engine.secrets()
        ours = [secret] if secret else [SECRET, *(name for name, carried in there.items() if MARK in carried)]
        kept = [name for name in ours if name in there]
        if kept:
            return kept[-1], f"secret {kept[-1]} is there already, and kept, with the limits that it was made with"
        name = ours[0]
        content = new_root(Terms(trust_domain=chosen.trust_domain, permit_dns=chosen.permit_dns), utc())
        root = fingerprint(read_shared(content).roots[0])
        await engine.create_secret(name, content, {MARK: root})
        return name, f"made the authority: secret {name}, root SHA-256 {root}"

    name, told = ask(docker_host, act, kind=ManagingEngine)
    click.echo(told, err=True)
    click.echo(_deploy(name))


@swarm.command("rotate-ca")
@click.option(
    "--overlap", default=f"{OVERLAP.days}d", show_default=True, metavar="DURATION",
    help="How long the present root is still believed; 0 for not at all.",
)  # fmt: skip
@click.option("--ca-file", default="", metavar="FILE", envvar="BYFAHRER_CA_FILE", help="Where the present one is.")
@click.pass_obj
def rotate_ca(docker_host: str, overlap: str, ca_file: str) -> None:
    """
    Make a new root for all nodes; sidecars get new certificates as their node's byfahrer has it.

    To be run in the container of a byfahrer on a manager: nobody else can read the present secret. byfahrer's tasks are
    replaced one after the other, and sidecars run on. Until the overlap ends, who knows either root believes every
    sidecar.

    \b
    Examples:
      docker exec "$(docker ps -qf label=com.docker.swarm.service.name=byfahrer_byfahrer)" byfahrer swarm rotate-ca
    """
    own_id = options.own_id()
    if not (ca_file and own_id):
        raise settings.SettingError(
            "only a byfahrer's own container can read the present secret: run this in there, on a manager (see --help)"
        )
    lasts = cli_ca.duration_of(overlap)
    shared, now = SharedRoot(Path(ca_file)), utc()
    secret = f"{SECRET}-{now:%Y%m%d-%H%M%S}"
    content = shared.rotated(lasts)
    present = (MARK, fingerprint(shared.issuer().roots[0]))
    root = fingerprint(read_shared(content).roots[0])

    async def act(engine: ManagingEngine) -> tuple[str, list[str]]:
        carried = (await engine.inspect(own_id)).labels
        if SWARM_SERVICE not in carried:
            raise settings.SettingError("this container is no task of a service: byfahrer ca rotate is for the others")
        made = await engine.create_secret(secret, content, {MARK: root})
        try:
            before = await engine.exchange_secret(carried[SWARM_SERVICE], ca_file, secret, made, present=present)
        except EngineError:
            with suppress(EngineError):  # refused where the service has it after all, and only the answer was lost
                await engine.remove_secret(made)
            raise
        older = [name for name, said in (await engine.secrets()).items() if MARK in said and name != secret]
        return carried.get(STACK, ""), older if before in older else [before, *older]

    stack, older = ask(docker_host, act, kind=ManagingEngine)
    # Soon, for this very process may end by it: its container is one of those that are replaced.
    click.echo(f"new root, SHA-256 {root}, in the secret {secret}", err=True)
    click.echo(
        f"the one before is believed until {moment(now + lasts)}: hand out the new one by then"
        if lasts
        else "none before it is believed any more, by any byfahrer that is replaced",
        err=True,
    )
    click.echo(f"once all are replaced: docker secret rm {' '.join(older)}", err=True)
    click.echo("deploy with it from now on, by the command on standard output", err=True)
    click.echo(_deploy(secret, stack))


def _deploy(secret: str, stack: str = "") -> str:
    """The command by which byfahrer runs on every node with this authority."""
    chosen = "" if secret == SECRET else f"BYFAHRER_CA={secret} "
    return f"{chosen}docker stack deploy -c deploy/stack.yaml {stack or 'byfahrer'}"
