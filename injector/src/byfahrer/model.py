"""
What the injector talks about: containers as they were seen, the sidecar that is wanted, and what to do about it.

Frozen data only: no I/O, no label names, no policy. Times are the engine's, in nanoseconds since 1970, 0 for never.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})

SPEC_REVISION = 4
"""To be raised when the engine adapter makes another container from the same spec: every sidecar is then renewed."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, what turns the direction of writing around (UAX 9), and surrogates, which no terminal's encoding has."""


def one_line(text: str, most: int | None = None) -> str:
    """`text` so that it can neither end its line nor steer a terminal, and cut to `most` characters."""
    if most is not None and len(text) > most:
        text = f"{text[:most]}…"
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class Status(enum.StrEnum):
    """`State.Status` of the engine. `Running` is no substitute: it is true in a crash loop, without a process."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Status:  # noqa: ARG003 - a status that a newer engine invents
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume or a folder of the host in a container."""

    kind: str
    """`bind`, `volume`, `tmpfs`, …"""
    source: str
    """Volume name, or path on the host; empty for a new volume, which goes with its container."""
    destination: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file in a container, or a folder."""

    path: str
    content: bytes | None = field(repr=False)
    """None for a folder. Never shown: it may be a token."""
    uid: int = 0
    gid: int = 0
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A container's place in one network."""

    name: str
    aliases: tuple[str, ...] = ()
    """Names under which others on this network find it, besides its own."""
    addresses: tuple[str, ...] = ()
    """IP addresses, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Swarm service, as its managers know it: its tasks' containers show none of this."""

    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    """Its virtual IP addresses, one in each network, behind which its tasks are; none with `dnsrr`."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """The IDs of the secrets that its tasks have, by the secrets' names."""


NO_SERVICE = Service()


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A container as a list shows it: enough to know whom to look at, not what to do."""

    id: str
    name: str
    status: Status
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    """The name that it was made from, while that is still the same image's; else the image's ID."""
    unhealthy: bool = False
    """What the engine's own probe says, where the container has one."""
    endpoints: tuple[str, ...] = ()
    """IDs of its places in networks: each start gives new ones, so a restart that no event told of shows in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as it was when the engine was asked."""

    id: str
    name: str
    image: str
    status: Status
    labels: Mapping[str, str] = field(default_factory=dict)
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    """Whether the kernel killed something in it for want of memory, since its start."""
    health: str = ""
    """`starting`, `healthy` or `unhealthy` by the engine's own probe; empty without one."""
    folder: str = ""
    """Where its engine keeps its files, on the engine's machine; empty if it does not say."""
    image_id: str = ""
    """Of the image that it was made from: the name may have gone to another one since."""
    stop_signal: str = ""
    """As it is written (`SIGQUIT`, `3`); empty for the engine's own, SIGTERM."""
    stop_timeout: int | None = None
    """Seconds that `docker stop` grants it; None for the engine's own, 10."""
    network_mode: str = "default"
    hostname: str = ""
    networks: tuple[Network, ...] = ()
    inherited: frozenset[str] = frozenset()
    """
    Labels that its image carries with the same value: its maker wrote them, so they prove no identity.

    Where the image is gone and nobody can tell, every label that could claim one counts as inherited.
    """
    mounts: tuple[Mount, ...] = ()
    published: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Its TCP ports that the engine publishes, and where on the host: `0.0.0.0:80`."""
    first_port: int = 0
    """The lowest port that any user may bind in its namespace, where whoever created it chose one."""
    user: str = ""
    """As it was created; empty for the image's own."""
    capabilities: tuple[str, ...] = ()
    """What it was given explicitly: sorted, without `CAP_`. All others it lacks, unless `freedoms` says otherwise."""
    memory: int = 0
    """Bytes that it may use at most; 0 or less where nothing is said, or the engine cannot limit it. Likewise these."""
    pids: int = 0
    cpus: int = 0
    """Billionths of a CPU."""
    freedoms: tuple[str, ...] = ()
    """What this container may do and no sidecar of ours may, in words: labels say what it claims, this what it is."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Only what a sidecar's settings are read from; the rest may be secret and is never kept."""

    @property
    def alive(self) -> bool:
        """Whether there is a namespace to join. A paused container has one."""
        return self.status in (Status.RUNNING, Status.PAUSED) and self.pid > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarSpec:
    """Everything that decides what a sidecar's container is, except whom it joins."""

    image: str
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    user: str
    memory: int
    """Bytes."""
    pids: int = 64
    """sslterm has a process, a worker or two, and short-lived children that make certificates."""
    cpus: int = 0
    """Billionths of a CPU; 0 for as many as there are."""
    capabilities: tuple[str, ...] = ()
    """Beyond none: sorted, without `CAP_`."""
    log_driver: str = ""
    """Empty for the engine's own."""
    log_options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Never shown: some drivers want a token here."""
    stop_timeout: int = 10
    """Seconds that `docker stop` grants: longer than the sidecar's own drain."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels beside those that every sidecar has. They change nothing about what it does."""

    @property
    def digest(self) -> str:
        """
        Changes with every field but the labels; the same in every process and Python.

        Two injectors that select targets differently mark their sidecars differently: they must not renew each other's.
        """
        fields = asdict(self)
        del fields["labels"]
        text = json.dumps([SPEC_REVISION, fields], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a target has no sidecar, or not the one it asks for: one line that says what would be right."""

    target: str
    text: str

    def __str__(self) -> str:
        return f"'{self.target}': {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that is known of one target at one moment."""

    target_id: str
    target: Container | None
    """None: there is no such container any more."""
    service: Service = NO_SERVICE
    """The target's Swarm service, as far as this node can know it."""
    service_unknown: bool = False
    """Whether nobody told of its service yet, or it was removed: then the task ends what it is at, and itself."""
    sidecars: tuple[Container, ...] = ()
    """Every container that is a sidecar of this target (not: that only says so), in any state."""
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """Labels that the operator wants to stand for those the target does not carry."""
    image_id: str | None = None
    """Which image the name that is asked for means now; None if it was not asked, or there is none."""
    image_missing: bool = False
    """Whether it cannot be used now: it is being pulled, or cannot be."""
    joined: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """
    By a sidecar's ID, what was seen: the start of it, and the start of its target that it joined then (0: another).

    Where nothing was seen, the order of the times has to do, which a clock that was set back turns around.
    """
    proven: frozenset[str] = frozenset()
    """IDs of sidecars that have run for long enough to be relied on."""
    awaited_long: frozenset[str] = frozenset()
    """IDs of sidecars whose predecessors have had all the time that they could need to leave."""
    silent: frozenset[str] = frozenset()
    """IDs of sidecars that should be heard of and are not."""


@dataclass(frozen=True, slots=True)
class Inject:
    """Create a sidecar and start it."""

    name: str
    target: Container
    spec: SidecarSpec
    beside: Container | None = None
    """The one that serves until this one does, on the same port."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a sidecar that exists."""

    sidecar: Container
    for_now: bool = False
    """Whether it only serves until the one that is wanted does."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart a running sidecar at once: it then joins the target's present namespace."""

    sidecar: Container
    why: str
    for_now: bool = False


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a sidecar the name that its like have."""

    sidecar: Container
    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a sidecar, whatever its state."""

    sidecar: Container
    why: str
    drain: bool = False
    """Whether someone may still be talking through it."""
    brief: bool = False
    """Whether its own word on how long that takes counts for nothing: it is none that we would make."""


Action = Inject | Start | Restart | Remove | Rename


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order, and what stands in the way of more."""

    actions: tuple[Action, ...] = ()
    problems: tuple[Problem, ...] = ()
    serving: Container | None = field(default=None, compare=False)
    """The sidecar that is what it should be, and where: nothing is to be done about it."""
    spare: Container | None = field(default=None, compare=False)
    """The sidecar that serves until the one that is wanted does."""
    awaited: Container | None = field(default=None, compare=False)
    """The sidecar that has yet to prove itself before the spare one goes: look again soon."""
    image: str = field(default="", compare=False)
    """The image that the target's sidecar is to be made from; empty if it is to have none."""
