"""`byfahrer render`: sidecars as services of a compose file."""

from __future__ import annotations

from typing import Any

import click

from byfahrer import labels, manual, options
from byfahrer import render as rendering
from byfahrer.ask import ask, setting
from byfahrer.engine.client import DockerEngine


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--image", metavar="IMAGE", help="The sidecar's image.  [default: sslterm, unless NAME has labels]")
@click.option(
    "--set", "chosen", multiple=True, metavar="SETTING=VALUE", help="A setting, as the label byfahrer.SETTING would."
)
@options.allow_image
@options.sidecar
@click.pass_obj
def render(
    docker_host: str,
    /,
    names: tuple[str, ...],
    image: str | None,
    chosen: tuple[str, ...],
    **more: Any,  # noqa: ANN401 - all that decides what a sidecar may be
) -> None:
    """
    Print the sidecars of the containers NAME as a compose file, for those who would rather write them down.

    The containers need not run, nor have labels. Such a sidecar is compose's: byfahrer neither restarts it nor gives it
    certificates; it signs its own, or has them from files.

    \b
    Examples:
      byfahrer render shop_web_1 > sidecar.yaml
      docker compose -f compose.yaml -f sidecar.yaml up -d
      byfahrer render db --set mode=tcp --set frontend=:6380 --set backend=:6379
    """
    policy = options.policy(more, allow_image=more.pop("allow_image"))
    values = dict(setting(text) for text in chosen)

    async def look(engine: DockerEngine) -> list[rendering.Wanted]:
        found = []
        for name in dict.fromkeys(names):
            own = not image and not values and await manual.labelled(engine, name)
            wish = {} if own else labels.wish_by_hand(image or "sslterm", values)
            found.append(await rendering.wanted(engine, policy, name, wish))
        return found

    click.echo(rendering.compose(ask(docker_host, look, look_only=True)), nl=False)
