"""
What a sidecar may use: memory, processes, CPUs and capabilities, and how far labels may go in that. Pure.

A label can come with an image, so none of them counts by itself: for each there is what the operator gives to every
sidecar, and the most that a label may ask for. Less may always be asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from byfahrer.labels import CAP_ADD, CPUS, MEMORY, PIDS, Annotations, LabelError
from byfahrer.model import Container, SidecarSpec

_ALL = """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER
    FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE
    NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE
    SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
"""
CAPABILITIES: Final = frozenset(_ALL.split())
"""capabilities(7). Not ALL: whoever allows that should see what it is."""

LEAST_MEMORY: Final = 32 * 1024**2
"""Less than 32 MiB, and the interpreter is killed before it can say why."""
LEAST_PIDS: Final = 16
"""Processes and threads: a sidecar, its workers, and a child that makes a key."""
MOST_PIDS: Final = 2**22
"""What the kernel can count."""
NANO: Final = 10**9

_SIZE = re.compile(r"(\d{1,9})([kmg]?)b?", re.IGNORECASE | re.ASCII)
_CPUS = re.compile(r"(\d{1,5})(?:\.(\d{1,3}))?", re.ASCII)
_USER = re.compile(r"(\d+)(?::(\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bound:
    """Of one resource: what every sidecar has, and the most that a label may ask for. 0 is no limit."""

    default: int
    most: int

    def allows(self, value: int) -> bool:
        return not self.most or 0 < value <= self.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The operator's bounds."""

    memory: Bound
    """Bytes."""
    pids: Bound
    cpus: Bound
    """Billionths of a CPU."""
    capabilities: frozenset[str] = frozenset()
    """Those that a label may ask for."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One that can be limited."""

    label: str
    accepts: str
    read: Callable[[str], int]
    """ValueError."""
    write: Callable[[int], str]

    @property
    def flag(self) -> str:
        return f"--sidecar-{self.label}"

    def bound(self, text: str) -> Bound:
        """What the operator wrote, `default` or `default:most`; ValueError says what is accepted."""
        default, colon, most = text.partition(":")
        try:
            first = self.read(default)
            found = Bound(first, self.read(most) if colon else first)
        except ValueError:
            raise ValueError(f"{self.accepts}, and perhaps the most for labels after a colon") from None
        if not found.allows(first):
            raise ValueError("the most that a label may ask for, after the colon, to be no less than what is before it")
        return found


def _memory(text: str) -> int:
    found = _SIZE.fullmatch(text)
    size = int(found[1]) * 1024 ** " kmg".index(found[2].lower() or " ") if found else 0
    if size < LEAST_MEMORY:
        raise ValueError(text)
    return size


def _size(value: int) -> str:
    power = next(power for power in (3, 2, 1, 0) if value % 1024**power == 0)
    return f"{value // 1024**power}{('', 'k', 'm', 'g')[power]}"


def _pids(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(10 * MOST_PIDS)) else 0
    if not LEAST_PIDS <= number <= MOST_PIDS:
        raise ValueError(text)
    return number


def _cpus(text: str) -> int:
    found = _CPUS.fullmatch(text)
    number = int(found[1]) * NANO + int((found[2] or "0").ljust(9, "0")) if found else -1
    # The engine wants a hundredth at least.
    if number < 0 or 0 < number < NANO // 100:
        raise ValueError(text)
    return number


RESOURCES: Final = (
    Resource(MEMORY, "a size of at least 32m, such as 128m or 1g", _memory, _size),
    Resource(PIDS, f"a number from {LEAST_PIDS} to {MOST_PIDS}, such as 64", _pids, str),
    Resource(CPUS, "a number of CPUs such as 1.5, or 0 for no limit", _cpus, lambda value: f"{value / NANO:g}"),
)


def capability(text: str) -> str:
    """The name of a capability, without `CAP_`; ValueError."""
    name = text.strip().upper().removeprefix("CAP_")
    if name not in CAPABILITIES:
        raise ValueError(text)
    return name


def asked(found: Annotations) -> tuple[Mapping[str, int], tuple[str, ...], list[LabelError]]:
    """What the labels ask for: resources by label, capabilities in order; and what is wrong with them."""
    resources: dict[str, int] = {}
    capabilities: tuple[str, ...] = ()
    errors: list[LabelError] = []
    for each in RESOURCES:
        try:
            if each.label in found:
                resources[each.label] = each.read(found[each.label].value.strip())
        except ValueError:
            errors.append(found[each.label].error(each.accepts))
    try:
        if CAP_ADD in found:
            capabilities = tuple(sorted({capability(part) for part in found[CAP_ADD].value.split(",")}))
    except ValueError:
        errors.append(found[CAP_ADD].error("names of Linux capabilities between commas, such as NET_RAW; not ALL"))
    return resources, capabilities, errors


def forbidden(found: Annotations, spec: SidecarSpec, limits: Limits) -> list[str]:
    """What labels ask for, understood, and the operator does not allow."""
    texts = []
    for each in RESOURCES:
        bound: Bound = getattr(limits, each.label)
        if each.label in found and not bound.allows(getattr(spec, each.label)):
            texts.append(str(found[each.label].error(f"at most {each.write(bound.most)} ({each.flag})")))
    if not limits.capabilities.issuperset(spec.capabilities):
        allowed = ", ".join(sorted(limits.capabilities)) or "none"
        texts.append(str(found[CAP_ADD].error(f"allowed capabilities (--allow-capability): {allowed}")))
    return texts


def exceeds(sidecar: Container, limits: Limits) -> bool:
    """
    Whether one that exists may use more than the operator allows by now.

    One without a limit may be of an engine that cannot set it, and would be made again without.
    """
    bounds = [(getattr(sidecar, each.label), getattr(limits, each.label).most) for each in RESOURCES]
    return any(most and value > most for value, most in bounds)


def as_root(user: str) -> str:
    """
    Who a sidecar with capabilities runs as: the engine gives none to any other user than root.

    It keeps the group, by which it gets at the authority's socket: root without capabilities is let in nowhere else.
    """
    found = _USER.fullmatch(user)
    return f"0:{found[2] or found[1]}" if found else "0:0"
