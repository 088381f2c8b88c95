"""`byfahrer swarm`: what the nodes of a Swarm have in common, made and rotated on a manager."""

from __future__ import annotations

import datetime as dt
import os
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
DEPLOY = "docker stack deploy -c deploy/stack.yaml byfahrer"


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
@click.option("--secret", default=SECRET, show_default=True, metavar="NAME", help="What to call the secret.")
@options.terms
@click.pass_obj
def init(docker_host: str, secret: str, trust_domain: str, permit_dns: tuple[str, ...]) -> None:
    """
    Make the authority that all nodes share, as a secret, and print how to start byfahrer on all of them.

    To be run on a manager, once. A secret that is there is kept.

    \b
    Examples:
      byfahrer swarm init
      byfahrer swarm init --trust-domain example.org
    """
    chosen = settings.authority(
        run_dir=settings.RUN_DIR, state_dir="/", trust_domain=trust_domain, permit_dns=permit_dns
    )

    async def act(engine: ManagingEngine) -> str:
        if secret in await engine.secrets():
            return f"secret {secret} is there already, and kept, with the limits that it was made with"
        content = new_root(Terms(trust_domain=chosen.trust_domain, permit_dns=chosen.permit_dns), utc())
        root = fingerprint(read_shared(content).roots[0])
        await engine.create_secret(secret, content, {MARK: root})
        return f"made the authority: secret {secret}, root SHA-256 {root}"

    click.echo(ask(docker_host, act, kind=ManagingEngine), err=True)
    click.echo(DEPLOY if secret == SECRET else f"BYFAHRER_CA={secret} {DEPLOY}")


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
    if not ca_file:
        raise settings.SettingError("--ca-file='': expected the secret's file; run this in the container of a byfahrer")
    lasts = cli_ca.duration_of(overlap)
    shared, own_id, now = SharedRoot(Path(ca_file)), options.own_id(), utc()
    secret = f"{SECRET}-{now:%Y%m%d-%H%M%S}"
    content = shared.rotated(lasts)
    present = (MARK, fingerprint(shared.issuer().roots[0]))

    async def act(engine: ManagingEngine) -> tuple[str, str]:
        service = (await engine.inspect(own_id)).labels.get(SWARM_SERVICE, "") if own_id else ""
        if not service:
            raise settings.SettingError(
                "this is no task of a service: run it in the container of a byfahrer (docker exec)"
            )
        root = fingerprint(read_shared(content).roots[0])
        made = await engine.create_secret(secret, content, {MARK: root})
        # What follows may be the end of this very process: its container is one of those that are replaced.
        click.echo(_told(secret, root, lasts), err=True)
        try:
            return await engine.exchange_secret(service, ca_file, secret, made, present=present), root
        except EngineError:
            with suppress(EngineError):  # refused where the service has it after all, and only the answer was lost
                await engine.remove_secret(made)
                click.echo(f"nothing has changed: the secret {secret} is removed again", err=True)
            raise

    before, _ = ask(docker_host, act, kind=ManagingEngine)
    click.echo(f"once all are replaced: docker secret rm {before}", err=True)


def _told(secret: str, root: str, lasts: dt.timedelta) -> str:
    before = f"the one before is believed until {moment(utc() + lasts)}: hand out the new one by then"
    if not lasts:
        before = "none before it is believed any more, by any byfahrer that is replaced"
    return os.linesep.join(
        (
            f"new root, SHA-256 {root}, in the secret {secret}",
            before,
            f"from now on it is: BYFAHRER_CA={secret} {DEPLOY}",
        )
    )
