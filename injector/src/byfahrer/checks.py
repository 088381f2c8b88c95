"""Checks of `byfahrer doctor` that need nothing but what the engine said already. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from byfahrer import labels
from byfahrer.engine.interface import EngineInfo
from byfahrer.finding import OK, PROBLEM, WARNING, Finding
from byfahrer.model import Container, SidecarSpec, one_line
from sslterm.settings import Address, Settings

OLDEST_API: Final = (1, 30)
"""Docker 17.06: before it, mounts as sidecars have them could not be asked for."""
CLOCKS_APART: Final = 30.0
"""Seconds, of which a warning is given."""
CLOCKS_TOO_FAR: Final = 300.0
"""By so much certificates are dated back: a clock that is further behind takes them for not yet valid."""
MOST_NAMED: Final = 5


def api(info: EngineInfo) -> Iterator[Finding]:
    """Whether the engine is new enough."""
    oldest = ".".join(map(str, OLDEST_API))
    said = f"API {one_line(info.api_version, 20)} of engine {one_line(info.version, 100)}"
    try:
        version = tuple(int(part) for part in info.api_version.split("."))
    except ValueError:
        version = ()
    if version < OLDEST_API:
        advice = "update Docker, or let DOCKER_API_VERSION be unset where it is"
        yield Finding("api", PROBLEM, f"{said}: byfahrer needs {oldest} at least; {advice}")
    else:
        yield Finding("api", OK, f"{said}; {oldest} or newer is needed")


def confinement(info: EngineInfo, *, in_container: bool, authority: bool) -> Iterator[Finding]:
    """What the engine does to containers that makes a difference for sidecars."""
    for name in ("userns", "rootless"):
        if name in info.security and authority and not in_container:
            text = (
                f"{name}: users in containers are others on the host, so sidecars may not open the authority's socket"
            )
            yield Finding("engine", WARNING, f"{text}; run byfahrer in a container of this engine")
    for name in info.unlimited:
        yield Finding("engine", WARNING, f"cannot limit {name}: sidecars are not kept to it; see docker info")
    if not info.live_restore:
        text = "live-restore is off: containers stop while the engine restarts, sidecars too; it is on with"
        yield Finding("engine", OK, f'{text} "live-restore": true in daemon.json')


def clock(info: EngineInfo, now: float) -> Iterator[Finding]:
    """Whether engine and byfahrer agree on the time."""
    apart = float(info.now) - now
    text = f"the engine's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} ours"
    advice = "set both by NTP: certificates are good from one time to another"
    if abs(apart) >= CLOCKS_TOO_FAR:
        yield Finding("clock", PROBLEM, f"{text}; {advice}")
    elif abs(apart) >= CLOCKS_APART:
        yield Finding("clock", WARNING, f"{text}; {advice}")
    else:
        yield Finding("clock", OK, "the engine's clock and ours agree")


def swarm(info: EngineInfo, told: int = 0) -> Iterator[Finding]:
    """Whose labels can be read here. `told`: of how many services managers told the daemon."""
    if info.role == "manager":
        yield Finding("swarm", OK, "a manager: labels of services are read")
    elif info.role == "worker" and told:
        yield Finding("swarm", OK, f"a worker: managers told of {told} services")
    elif info.role == "worker":
        text = "a worker: labels of services (deploy.labels) cannot be read here"
        advice = "run byfahrer with --peers on every node, or put them on the containers (--container-label, labels)"
        yield Finding("swarm", WARNING, f"{text}; {advice}")
    else:
        yield Finding("swarm", OK, "no Swarm: labels of containers are read")


def ports(found: Iterable[tuple[Container, SidecarSpec]]) -> list[Finding]:
    """Whether clients get to sidecars, and past them."""
    return [finding for target, spec in found for finding in _ports_of(target, spec)]


def _ports_of(target: Container, spec: SidecarSpec) -> Iterator[Finding]:
    settings = Settings.resolve({}, dict(spec.env))
    front, back = settings.frontend_addr, settings.backend_addr
    fronts = (front.port,) if isinstance(front, Address) else (443, 8443)
    named = " or ".join(f":{port}" for port in fronts)
    public = {port: ", ".join(places) for port, places in sorted(target.published.items())}
    # Of a Swarm task, the service publishes them.
    if not public and labels.SWARM_SERVICE not in target.labels:
        yield Finding("ports", OK, f"'{target.name}' publishes no port: reachable from its networks only")
    if public and not public.keys() & set(fronts):
        others = ", ".join(f"{port} at {where}" for port, where in public.items())
        text = f"'{target.name}' publishes {others}, but not its sidecar's {named}"
        yield Finding("ports", WARNING, f"{text}: publish that on the target (-p {fronts[0]}:{fronts[0]})")
    if isinstance(back, Address) and back.port in public and back.port not in fronts:
        text = f"'{target.name}' publishes its plain port {back.port} at {public[back.port]}"
        yield Finding("ports", WARNING, f"{text}: whoever calls it there goes round TLS; publish {named} only")
    lowest = min(fronts)
    if lowest < target.first_port and not spec.user.startswith(("0", "root")):
        text = f"'{target.name}' has net.ipv4.ip_unprivileged_port_start={target.first_port}"
        yield Finding(
            "ports",
            PROBLEM,
            f"{text}, so its sidecar cannot bind :{lowest}: leave that sysctl out, or choose a higher port",
        )


def named(names: Iterable[str]) -> str:
    """Some of them, and how many there are besides."""
    shown = [one_line(name, 100) for name in names]
    more = len(shown) - MOST_NAMED
    return ", ".join(shown[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
