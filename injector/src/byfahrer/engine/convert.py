"""The engine's JSON as our data, and our spec as the engine's arguments. Pure."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from byfahrer import labels
from byfahrer.engine.interface import EngineInfo, Event
from byfahrer.model import NOTHING, Container, Mount, Network, Service, SidecarSpec, Status, Summary

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z\s+")
_OURS = ("SSLTERM_", "GOSSLTERM_", "LOG_LEVEL=")

REPORTS_TO = "SSLTERM_AUTHORITY"
PROBE_INTERVAL = 120 * 10**9
"""Nanoseconds, before the first probe too: each is a process start and three events on the engine."""
JSON_FILE = "json-file"
ROTATION = {"max-size": "10m", "max-file": "3"}
SHARED_MEMORY = 1024**2
"""Bytes."""
LONGEST_LINE = 16384
"""Bytes of a log's last line that are read."""
_LIMITS = {"memory": "MemoryLimit", "pids": "PidsLimit"}
_CLAIMS = ("com.docker.", "byfahrer.", "org.qnib.")
"""What labels begin with that may say who a container is, or which names it has."""
_COMPOSE = "com.docker.compose."
_COMPOSE_MADE = "com.docker.compose.config-hash"


def words(log: bytes) -> str:
    """The last line of a log, without the time at which it was written: whoever says the same again is told of once."""
    text = " ".join(log[:LONGEST_LINE].decode(errors="replace").split())
    if text.startswith("{"):
        # The parser is recursive, and whoever wrote this may know.
        with suppress(ValueError, RecursionError):
            message = json.loads(text).get("message")
            text = message if isinstance(message, str) else text
    return _STAMP.sub("", text, count=1)[:300]


def nanoseconds(text: str | None) -> int:
    """An RFC 3339 time as nanoseconds since 1970; 0 for the engine's `never` (year 1) and for none."""
    found = _TIME.fullmatch(text or "")
    if found is None or found[1].startswith("0001"):
        return 0
    zone = "+00:00" if found[3] == "Z" else found[3]
    seconds = int(datetime.fromisoformat(found[1] + zone).astimezone(UTC).timestamp())
    return seconds * 10**9 + int((found[2] or "0").ljust(9, "0"))


def engine_info(info: Mapping[str, Any], api_version: str) -> EngineInfo:
    swarm = info.get("Swarm") or {}
    active = swarm.get("LocalNodeState") == "active"
    now = nanoseconds(info.get("SystemTime"))
    return EngineInfo(
        name=info.get("Name") or "unnamed",
        version=info.get("ServerVersion") or "unknown",
        api_version=api_version,
        role=("manager" if swarm.get("ControlAvailable") else "worker") if active else "none",
        now=f"{now // 10**9}.{now % 10**9:09}",
        security=tuple(_security(each) for each in info.get("SecurityOptions") or []),
        # Older engines do not say.
        unlimited=tuple(name for name, key in _LIMITS.items() if info.get(key) is False),
        live_restore=bool(info.get("LiveRestoreEnabled")),
    )


def _security(option: str) -> str:
    """`name=seccomp,profile=default`, by its name."""
    return option.removeprefix("name=").partition(",")[0]


def event(raw: Mapping[str, Any], more: Sequence[str] = ()) -> Event | None:
    """None for what is no event that we know. `more`: labels of containers that are kept, beside ours."""
    actor = raw.get("Actor") or {}
    kind, action, ident = raw.get("Type"), raw.get("Action"), actor.get("ID")
    if not (isinstance(kind, str) and isinstance(action, str) and isinstance(ident, str) and ident):
        return None
    attributes = actor.get("Attributes") or {}
    if kind != "container" and kind != "network":
        return Event(kind=kind, action=action, id=ident)
    if kind == "network":
        # Whom it happened to is what matters here, not to which network.
        joined = attributes.get("container")
        return Event(kind=kind, action=action, id=joined) if isinstance(joined, str) and joined else None
    sent = attributes.get("signal")
    signal = sent if action == "kill" and isinstance(sent, str) else ""
    return Event(kind=kind, action=action, id=ident, labels=labels.hints(attributes, more), signal=signal)


def summary(raw: Mapping[str, Any]) -> Summary:
    # Links give a container several names; its own has one slash only.
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    names = sorted(raw.get("Names") or [], key=lambda name: (name.count("/"), name))
    return Summary(
        id=raw["Id"],
        name=names[0].lstrip("/") if names else raw["Id"][:12],
        status=Status(raw.get("State") or "unknown"),
        labels=raw.get("Labels") or {},
        image=raw.get("Image") or "",
        unhealthy="(unhealthy)" in (raw.get("Status") or ""),
        endpoints=tuple(sorted(str(each.get("EndpointID") or "") for each in networks.values() if each)),
    )


def service(raw: Mapping[str, Any]) -> Service:
    spec = raw.get("Spec") or {}
    # With the length of the network's prefix; on a network that has just been taken away there may be none.
    virtual = (raw.get("Endpoint") or {}).get("VirtualIPs") or []
    addresses = {str(each.get("Addr") or "").partition("/")[0] for each in virtual}
    secrets = ((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Secrets") or []
    return Service(
        labels=spec.get("Labels") or {},
        addresses=tuple(sorted(address for address in addresses if address)),
        secrets={str(each.get("SecretName") or ""): str(each.get("SecretID") or "") for each in secrets},
    )


def container(raw: Mapping[str, Any], image_labels: Mapping[str, str] | None = NOTHING) -> Container:
    """`image_labels`: those of its image; None if they cannot be known."""
    state, config = raw.get("State") or {}, raw.get("Config") or {}
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    return Container(
        id=raw["Id"],
        name=(raw.get("Name") or raw["Id"][:12]).lstrip("/"),
        image=config.get("Image") or raw.get("Image") or "",
        status=Status(state.get("Status") or "unknown"),
        labels=config.get("Labels") or {},
        pid=state.get("Pid") or 0,
        started_at=nanoseconds(state.get("StartedAt")),
        finished_at=nanoseconds(state.get("FinishedAt")),
        exit_code=state.get("ExitCode") or 0,
        oom_killed=bool(state.get("OOMKilled")),
        health=_health(state),
        image_id=raw.get("Image") or "",
        folder=posixpath.dirname(raw.get("HostnamePath") or ""),
        stop_signal=config.get("StopSignal") or "",
        stop_timeout=config.get("StopTimeout"),
        network_mode=(raw.get("HostConfig") or {}).get("NetworkMode") or "default",
        hostname=config.get("Hostname") or "",
        networks=tuple(_network(name, networks[name] or {}) for name in sorted(networks)),
        inherited=inherited(config.get("Labels") or {}, image_labels),
        mounts=tuple(_mount(each) for each in raw.get("Mounts") or []),
        published=_published(raw),
        first_port=_first_port(raw.get("HostConfig") or {}),
        user=config.get("User") or "",
        capabilities=_capabilities(raw.get("HostConfig") or {}),
        memory=(raw.get("HostConfig") or {}).get("Memory") or 0,
        pids=(raw.get("HostConfig") or {}).get("PidsLimit") or 0,
        cpus=(raw.get("HostConfig") or {}).get("NanoCpus") or 0,
        freedoms=_freedoms(raw.get("HostConfig") or {}),
        env=dict(line.split("=", 1) for line in config.get("Env") or [] if line.startswith(_OURS) and "=" in line),
    )


def _published(raw: Mapping[str, Any]) -> dict[int, tuple[str, ...]]:
    # Of one that runs, where its ports are; of another, where they are to be.
    wanted = (raw.get("HostConfig") or {}).get("PortBindings") or {}
    found: dict[int, tuple[str, ...]] = {}
    for port, places in {**wanted, **((raw.get("NetworkSettings") or {}).get("Ports") or {})}.items():
        number, _, kind = port.partition("/")
        if kind == "tcp" and number.isdecimal() and places:
            found[int(number)] = tuple(f"{each.get('HostIp') or ''}:{each.get('HostPort') or ''}" for each in places)
    return found


def _first_port(host: Mapping[str, Any]) -> int:
    text = str((host.get("Sysctls") or {}).get("net.ipv4.ip_unprivileged_port_start") or "0")
    return int(text) if text.isdecimal() else 0


def _health(state: Mapping[str, Any]) -> str:
    said = (state.get("Health") or {}).get("Status") or ""
    return "" if said == "none" else str(said)


def _mount(raw: Mapping[str, Any]) -> Mount:
    kind = raw.get("Type") or "bind"
    source = raw.get("Name") if kind == "volume" else raw.get("Source")
    return Mount(kind=kind, source=source or "", destination=raw.get("Destination") or "", writable=bool(raw.get("RW")))


def _network(name: str, raw: Mapping[str, Any]) -> Network:
    addresses = (raw.get("IPAddress"), raw.get("GlobalIPv6Address"))
    return Network(
        name=name,
        aliases=tuple(map(str, raw.get("Aliases") or [])),
        addresses=tuple(str(address) for address in addresses if address),
    )


def inherited(own: Mapping[str, str], image: Mapping[str, str] | None) -> frozenset[str]:
    """The labels that are not known to be from whoever started the container."""
    if image is None:
        return frozenset(label for label in own if label.startswith(_CLAIMS))
    same = frozenset(label for label, value in own.items() if image.get(label) == value)
    # Compose labels the images that it builds too; on the containers that it makes, it writes all of these itself.
    if _COMPOSE_MADE in own and _COMPOSE_MADE not in same:
        same = frozenset(label for label in same if not label.startswith(_COMPOSE))
    return same


def _freedoms(host: Mapping[str, Any]) -> tuple[str, ...]:
    """In what a container is less confined than `host_arguments` makes it."""
    dropped = {str(each).upper() for each in host.get("CapDrop") or []}
    secured = {str(each).replace("=", ":").removesuffix(":true") for each in host.get("SecurityOpt") or []}
    found = {
        "privileged": bool(host.get("Privileged")),
        "a writable root": not host.get("ReadonlyRootfs"),
        "capabilities": not dropped & {"ALL", "CAP_ALL"},
        "new privileges": "no-new-privileges" not in secured,
        "another pid namespace": host.get("PidMode") not in (None, "", "private"),
        "another ipc namespace": host.get("IpcMode") not in (None, "", "private", "shareable", "none"),
        "the host's users": host.get("UsernsMode") not in (None, ""),
        "the host's name": host.get("UTSMode") not in (None, ""),
        "devices": bool(host.get("Devices") or host.get("DeviceRequests")),
        # Ours come by another field, and volumes that its image declares by none.
        "binds": bool(host.get("Binds") or host.get("VolumesFrom")),
    }
    return tuple(name for name, has in found.items() if has)


def _capabilities(host: Mapping[str, Any]) -> tuple[str, ...]:
    # Engines differ in whether they show the names as they were written.
    return tuple(sorted({str(each).upper().removeprefix("CAP_") for each in host.get("CapAdd") or []}))


def host_arguments(target_id: str, spec: SidecarSpec, log_driver: str = "") -> dict[str, Any]:
    """
    How a sidecar is confined. `log_driver`: what the engine uses where nothing is said.

    No ports, host name, DNS or hosts: the engine refuses them beside a container's network, and the target's hold.
    No sysctl: it would change the target's namespace for good. No capability of its own: any user may bind low ports
    there.
    """
    return {
        # The full ID: a name could be another container's by the time of the start.
        "network_mode": f"container:{target_id}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": list(spec.capabilities),
        "security_opt": ["no-new-privileges"],
        "pids_limit": spec.pids,
        "mem_limit": spec.memory,
        # The engine grants as much swap again otherwise, and 64 MiB of /dev/shm in which nothing of ours is kept.
        "memswap_limit": spec.memory,
        "nano_cpus": spec.cpus,
        "shm_size": SHARED_MEMORY,
        "init": False,
        # The engine gives up after one try while the target is down, and knows no order after a reboot (moby#50326).
        "restart_policy": {"Name": "no"},
        "log_config": _log(spec, log_driver),
    }


def _log(spec: SidecarSpec, default: str) -> dict[str, Any] | None:
    """
    Where its log goes; None for where the engine puts it.

    A sidecar writes a line for each request, and json-file, which is what engines have by default, keeps them for ever.
    """
    driver, options = spec.log_driver or default, dict(spec.log_options)
    if driver == JSON_FILE and "max-size" not in options:
        options = ROTATION | options
    return {"type": driver, "config": options} if spec.log_driver or options else None


def container_arguments(spec: SidecarSpec, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "environment": dict(spec.env),
        "labels": dict(labels),
        "user": spec.user,
        "stop_timeout": spec.stop_timeout,
        # One that reports to the authority is missed there when it hangs. Without a test, the image's own one stays.
        "healthcheck": {"test": ["NONE"]} if REPORTS_TO in dict(spec.env) else {"interval": PROBE_INTERVAL},
        # ~/.docker/config.json may hold proxies for containers: a sidecar calls nobody.
        "use_config_proxy": False,
    }
