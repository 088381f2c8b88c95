"""Options that several commands have in common, and what is made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from byfahrer import settings
from byfahrer.authority import state
from byfahrer.plan import Policy, Pull

Command = Callable[..., Any]

SIDECAR = (
    "only_label", "sidecar_user", "sidecar_memory", "sidecar_pids", "sidecar_cpus", "allow_capability", "pull",
    "sidecar_log_driver", "sidecar_log_opt",
)  # fmt: skip
"""What `sidecar` adds to a command."""

JUDGING = (
    "allow_image", "only_label", "sidecar_user", "sidecar_memory", "sidecar_pids", "sidecar_cpus", "allow_capability",
    "pull", "authority",
)  # fmt: skip
"""What decides who is refused. No folders, which may have other names here, and nothing that could be secret."""

only_label = click.option(
    "--only-label",
    multiple=True,
    metavar="KEY[=VALUE]",
    envvar="BYFAHRER_ONLY_LABEL",
    help="Look after containers with this label only. May be repeated: all of them must be there.",
)

allow_image = click.option(
    "--allow-image", multiple=True, default=settings.ALLOW_IMAGES, metavar="PATTERN", envvar="BYFAHRER_ALLOW_IMAGE",
    help="As the daemon has it, to tell whom it refuses.  [default: what the daemon says that it has]",
)  # fmt: skip


def sidecar(command: Command) -> Command:
    """What decides how a sidecar is made."""
    return _all(
        command,
        only_label,
        click.option(
            "--sidecar-user", default=settings.SIDECAR_USER, show_default=True, metavar="USER[:GROUP]",
            envvar="BYFAHRER_SIDECAR_USER", help="Whom sidecars run as: somebody that no target runs as.",
        ),
        click.option(
            "--sidecar-memory", default=settings.SIDECAR_MEMORY, show_default=True, metavar="SIZE[:MOST]",
            envvar="BYFAHRER_SIDECAR_MEMORY",
            help="Memory limit of each sidecar. After a colon, the most that a label may ask for.",
        ),
        click.option(
            "--sidecar-pids", default=settings.SIDECAR_PIDS, show_default=True, metavar="NUMBER[:MOST]",
            envvar="BYFAHRER_SIDECAR_PIDS", help="Most processes and threads of each sidecar, alike.",
        ),
        click.option(
            "--sidecar-cpus", default=settings.SIDECAR_CPUS, show_default=True, metavar="NUMBER[:MOST]",
            envvar="BYFAHRER_SIDECAR_CPUS", help="Most CPUs of each sidecar, such as 1.5, alike; 0 is no limit.",
        ),
        click.option(
            "--allow-capability", multiple=True, metavar="NAME", envvar="BYFAHRER_ALLOW_CAPABILITY",
            help="A Linux capability that a label may ask for, such as NET_RAW. May be repeated.",
        ),
        click.option(
            "--pull", type=click.Choice(list(map(str, Pull))), default=str(Pull.MISSING), show_default=True,
            envvar="BYFAHRER_PULL", help="When to pull a sidecar's image before one is created, as docker run does.",
        ),
        click.option(
            "--sidecar-log-driver", default="", metavar="NAME", envvar="BYFAHRER_SIDECAR_LOG_DRIVER",
            help="Log driver of each sidecar.  [default: the engine's]",
        ),
        click.option(
            "--sidecar-log-opt", multiple=True, metavar="KEY=VALUE", envvar="BYFAHRER_SIDECAR_LOG_OPT",
            help="Option for it. May be repeated. Without max-size, json-file gets max-size=10m, max-file=3.",
        ),
    )  # fmt: skip


def policy(given: dict[str, Any], **more: Any) -> Policy:  # noqa: ANN401 - as `settings.policy` takes them
    """The operator's decisions; takes what `sidecar` has added out of `given`. SettingError."""
    return settings.policy(**{name: given.pop(name) for name in SIDECAR}, **more)


def told(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the daemon tells of its flags."""
    return {name: given[name] for name in JUDGING}


def as_daemon(given: dict[str, Any], answer: object) -> None:
    """Where the user gave a flag neither here nor in the environment, have what the daemon that answered was given."""
    flags = answer.get("flags") if isinstance(answer, dict) else None
    context = click.get_current_context()
    if not isinstance(flags, dict):
        return
    for name in JUDGING:
        value = flags.get(name)
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            continue
        if isinstance(given[name], str) and isinstance(value, str):
            given[name] = value
        elif (
            isinstance(given[name], tuple) and isinstance(value, list) and all(isinstance(each, str) for each in value)
        ):
            given[name] = tuple(value)


state_dir = click.option(
    "--state-dir", default="", metavar="FOLDER", envvar="BYFAHRER_STATE_DIR",
    help="Where the authority's root and what it has issued are kept.  "
         f"[default: {state.DEFAULT}; else byfahrer in the user's state folder]",
)  # fmt: skip


admin_addr = click.option(
    "--admin-addr", default="", metavar="ADDRESS", envvar="BYFAHRER_ADMIN_ADDR",
    help="Socket for status and metrics (GET /status, /metrics, /ready): unix:/path/to.sock or none.  "
         f"[default: {settings.ADMIN_SOCKET} in --state-dir]",
)  # fmt: skip


def place(command: Command) -> Command:
    """Where the authority is, and whether there is one."""
    return _all(
        command,
        click.option(
            "--authority", type=click.Choice(["on", "off"]), default="on", show_default=True,
            envvar="BYFAHRER_AUTHORITY", help="Whether sidecars get their certificates here; else each signs its own.",
        ),
        state_dir,
        click.option(
            "--run-dir", default="", metavar="FOLDER", envvar="BYFAHRER_RUN_DIR",
            help="Where the socket for sidecars is: a folder, or a volume, that they get too.  "
                 f"[default: {settings.RUN_DIR}; else byfahrer in the user's run folder]",
        ),
    )  # fmt: skip


peers = click.option(
    "--peers", default="", metavar="HOST:PORT", envvar="BYFAHRER_PEERS",
    help="In a Swarm: the name of all byfahrers, such as tasks.byfahrer:9443. Managers tell workers of services there. "
         "They need one authority: --ca-file, or --ca-cert.",
)  # fmt: skip

issuer = click.option(
    "--ca-cert", default="", metavar="FILE", envvar="BYFAHRER_CA_CERT",
    help="Sign with this authority instead of a root of our own: PEM, the issuing certificate first, its root last.",
)  # fmt: skip

ca_file = click.option(
    "--ca-file", default="", metavar="FILE", envvar="BYFAHRER_CA_FILE",
    help="Sign with the root in this file, which all nodes of a Swarm share (byfahrer swarm init).",
)  # fmt: skip

ca_key = click.option(
    "--ca-key", default="", metavar="FILE", envvar="BYFAHRER_CA_KEY", help="Key of --ca-cert, in PEM."
)


def terms(command: Command) -> Command:
    """What a root of our own is for."""
    return _all(
        command,
        click.option(
            "--trust-domain", default="", metavar="NAME", envvar="BYFAHRER_TRUST_DOMAIN",
            help="Domain of SPIFFE IDs; if it is given, the root is limited to it.  [default: byfahrer.internal]",
        ),
        click.option(
            "--permit-dns", multiple=True, metavar="DOMAIN", envvar="BYFAHRER_PERMIT_DNS",
            help="Limit the root to DNS names in this domain. May be repeated.",
        ),
    )  # fmt: skip


def signing(command: Command) -> Command:
    """What the authority signs, and with what."""
    return _all(
        command,
        click.option(
            "--leaf-lifetime", default=settings.LEAF_LIFETIME, show_default=True, metavar="DURATION",
            envvar="BYFAHRER_LEAF_LIFETIME",
            help="How long a certificate is good for, 1m to 90d; renewed at half of it.",
        ),
        terms,
        issuer,
        ca_key,
        ca_file,
    )  # fmt: skip


def state_folder(text: str) -> Path:
    """What `--state-dir` says, or its default."""
    return Path(text) if text else state.default_path(os.environ)


def admin(admin_addr: str, state_dir: str, sidecars: settings.Authority | None = None) -> Path | None:
    """Where the daemon tells of itself, apart from what `sidecars` get. SettingError."""
    shared = sidecars.run_dir if sidecars else None
    return settings.admin(admin_addr, state_dir=str(state_folder(state_dir)), shared=shared)


def authority(
    *,
    authority: str,
    run_dir: str,
    state_dir: str,
    **more: Any,  # noqa: ANN401 - what only some commands have
) -> settings.Authority | None:
    """What these options say; None for no authority. SettingError."""
    folder = str(state_folder(state_dir))
    run_dir = run_dir or settings.run_dir(os.environ, root=os.geteuid() == 0, state_dir=folder)
    made = settings.authority(run_dir=run_dir, state_dir=folder, **more)
    return made if authority == "on" else None


def own_id() -> str:
    """The container that this program runs in, if it does."""
    found = {}
    for name in ("cgroup", "mountinfo"):
        with suppress(OSError):
            found[name] = Path("/proc/self", name).read_text()
    return settings.own_container(found)


def _all(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
