"""
What `byfahrer render` prints: sidecars as services of a compose file, for people who would rather write them down.

They are confined there as byfahrer confines them; what only byfahrer can do is missing, and comments say so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from byfahrer import __version__, labels, manual
from byfahrer.converge import sidecar_name
from byfahrer.engine.convert import host_arguments
from byfahrer.engine.interface import Engine
from byfahrer.manual import ManualError
from byfahrer.model import NOTHING, Container, Inject, Mount, SidecarSpec, Status, one_line
from byfahrer.plan import Policy, plan
from byfahrer.reconcile.observe import observe
from byfahrer.spec import ACME_AT

SERVICE: Final = "com.docker.compose.service"
PROJECT: Final = "com.docker.compose.project"
HEAD: Final = (
    f"Sidecars as byfahrer {__version__} would make them. They are compose's: byfahrer looks after its own ones only.",
    "Publish their ports on the targets. Where byfahrer runs too, take its labels off those, or it makes another.",
    "When a target restarts, its sidecar stays behind in the old network namespace.",
    "Restart the target first, then the sidecar; or make both anew (docker-compose up -d --force-recreate).",
    "Each signs its own certificate, unless SSLTERM_CERT and SSLTERM_KEY name files in a volume.",
    "The authority of byfahrer gives certificates to byfahrer's own sidecars only.",
)
NOT_HERE: Final = ("SSLTERM_AUTHORITY", "SSLTERM_AUTHORITY_TOKEN", "SSLTERM_HAND_OVER")
"""Variables that mean something beside byfahrer only."""

_SAME: Final = (
    "init", "read_only", "cap_drop", "cap_add", "security_opt", "pids_limit", "mem_limit", "memswap_limit", "shm_size",
)  # fmt: skip
"""Arguments of the engine's that have the same name in compose files."""
_SIZES: Final = ("mem_limit", "memswap_limit", "shm_size")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A target, and the sidecar that it is to have."""

    target: Container
    spec: SidecarSpec

    @property
    def service(self) -> str:
        """The compose service that the target is of; empty if it is none."""
        # From an image these would be the word of its maker, who knows no compose file of ours.
        known = not {SERVICE, PROJECT} & self.target.inherited
        return self.target.labels.get(SERVICE, "") if known else ""


async def wanted(engine: Engine, policy: Policy, name: str, wish: Mapping[str, str] = NOTHING) -> Wanted:
    """What byfahrer would make for the container `name`, which need not run. ManualError."""
    target = await manual.find_target(engine, name)
    observed = await observe(engine, target.id, wish)
    manual.check_wish(observed, name, wish)
    alive = replace(target, status=Status.RUNNING, pid=target.pid or 1)
    # As if it ran and had none, and as for sidecars that no authority looks after.
    todo = plan(replace(observed, target=alive, sidecars=()), replace(policy, authority=None))
    if todo.problems:
        raise ManualError("; ".join(map(str, todo.problems)))
    for action in todo.actions:
        if isinstance(action, Inject):
            return Wanted(target, action.spec)
    raise ManualError(f"'{name}' is to have no sidecar: see byfahrer.enable, and --only-label")


def compose(found: Sequence[Wanted]) -> str:
    """A compose file with these sidecars."""
    lines = [*_comments(HEAD), "services:"]
    for each in found:
        lines.append(f"  {sidecar_name(each.target)}:")
        lines += [f"    {line}" for line in [*_comments(_remarks(each)), *_yaml(service(each))]]
    volumes = {mount.source: _volume(mount) for each in found for mount in each.spec.mounts if mount.kind == "volume"}
    if volumes:
        lines += ["volumes:", *(f"  {line}" for line in _yaml(volumes))]
    return "\n".join(lines) + "\n"


def service(wanted: Wanted) -> dict[str, Any]:
    """One of them, as compose reads it."""
    spec = wanted.spec
    made: dict[str, Any] = {
        "image": spec.image,
        "network_mode": f"service:{wanted.service}" if wanted.service else f"container:{wanted.target.name}",
        "environment": {name: value for name, value in spec.env if name not in NOT_HERE},
        "user": spec.user,
        "restart": "unless-stopped",
        "stop_grace_period": f"{spec.stop_timeout}s",
        **_confinement(host_arguments(wanted.target.id, spec)),
        "volumes": [_mounted(each) for each in spec.mounts],
    }
    found: dict[str, Any] = _doubled({key: value for key, value in made.items() if value not in ({}, [])})
    return found


def _confinement(arguments: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: _size(value) if name in _SIZES else value for name, value in arguments.items() if name in _SAME}
    if arguments["nano_cpus"]:
        made["cpus"] = arguments["nano_cpus"] / 10**9
    if arguments["log_config"]:
        made["logging"] = {"driver": arguments["log_config"]["type"], "options": arguments["log_config"]["config"]}
    return made


def _remarks(wanted: Wanted) -> Iterator[str]:
    target = wanted.target
    if wanted.service:
        project = one_line(target.labels.get(PROJECT, ""), 100)
        yield f"For the service {one_line(wanted.service, 100)} of the project {project}: use it with that one's file."
    if labels.SWARM_SERVICE in target.labels and labels.SWARM_SERVICE not in target.inherited:
        yield f"{target.name} is a task of a Swarm service: the next one has another name."
    if any(mount.destination == ACME_AT for mount in wanted.spec.mounts):
        yield f"In its volume at {ACME_AT}, user {wanted.spec.user} must be able to write."


def _mounted(mount: Mount) -> dict[str, Any]:
    return {
        "type": mount.kind,
        "source": mount.source,
        "target": mount.destination,
        "read_only": not mount.writable,
    }


def _volume(mount: Mount) -> dict[str, Any]:
    # The target's are there; that of ACME may be new.
    return {"name": mount.source} if mount.destination == ACME_AT else {"external": True, "name": mount.source}


def _size(number: int) -> str:
    for size, unit in ((1024**3, "g"), (1024**2, "m"), (1024, "k")):
        if number % size == 0:
            return f"{number // size}{unit}"
    return f"{number}b"


def _doubled(value: Any) -> Any:  # noqa: ANN401 - anything that YAML can hold
    """With each dollar twice: compose would put variables there."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _doubled(each) for key, each in value.items()}
    return [_doubled(each) for each in value] if isinstance(value, list) else value


def _yaml(value: Mapping[str, Any]) -> list[str]:
    import yaml  # the daemon does without

    return yaml.safe_dump(dict(value), sort_keys=False, width=1000, allow_unicode=False).splitlines()


def _comments(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="#   ")
