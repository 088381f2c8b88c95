"""
What this network namespace shows of itself: who listens in it, and which addresses it has.

Everything is asked of the kernel, or read from /proc/net, as any user may, without a capability; whose process listens
cannot be known (the sidecar has a PID namespace of its own), only its uid. Parsing is pure; only the functions at the
end read.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sslterm import sockdiag
from sslterm.settings import SIDECAR_UID, Address

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTEN: Final = "0A"
"""TCP_LISTEN in the kernel's include/net/tcp_states.h."""

_ENGINE_DNS: Final = ipaddress.IPv4Address("127.0.0.11")
"""Docker's embedded name server: a listener on a random port in every container on a user-defined network."""

_V4: Final = "127.0.0.1"
_V6: Final = "::1"

_SETTLE: Final = 2.0
"""Seconds from the first listener seen to the decision: a target may open a debugger's port before its service's."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_REMIND_EVERY: Final = 60.0


class AmbiguousError(Exception):
    """There is more than one candidate; `candidates` has them."""

    def __init__(self, candidates: list[Candidate]) -> None:
        super().__init__(", ".join(str(each.address) for each in candidates))
        self.candidates = candidates


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket."""

    host: IPAddress
    port: int
    uid: int


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A port that could be the backend, with the loopback addresses to reach it by, the likelier first."""

    port: int
    hosts: tuple[str, ...]

    @property
    def address(self) -> Address:
        """How a person would write it."""
        return Address(self.hosts[0], self.port)


def parse_listeners(table: str) -> list[Listener]:
    """The listeners in the text of /proc/net/tcp or tcp6; lines that are no such thing are passed over."""
    found = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) > 7 and columns[3] == _LISTEN:
            host, _, port = columns[1].partition(":")
            found.append(Listener(_parse_address(host), int(port, 16), int(columns[7])))
    return found


def parse_accepted(table: str, ports: Container[int]) -> int:
    """
    How many connections at one of these local ports, in such a text, belong to a process.

    Those that only wait to be accepted, and those that are over, have no inode.
    """
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(
        len(row) > 9 and row[3] != _LISTEN and row[9] != "0" and int(row[1].rpartition(":")[2], 16) in ports
        for row in rows
    )


def _parse_address(digits: str) -> IPAddress:
    """The kernel prints an address as 32-bit words, each in the byte order of the machine (net/ipv4/tcp_ipv4.c)."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return _address(struct.pack(f"={len(words)}I", *words))


def _address(packed: bytes) -> IPAddress:
    address = ipaddress.ip_address(packed)
    return getattr(address, "ipv4_mapped", None) or address


def _listener(host: bytes, port: int, uid: int) -> Listener:
    return Listener(_address(host), port, uid)


def candidates(listeners: Iterable[Listener], *, own_ports: Container[int] = ()) -> list[Candidate]:
    """Ports that answer on loopback and are neither our own nor another sidecar's."""
    hosts: dict[int, set[str]] = {}
    for each in listeners:
        if each.port in own_ports or each.uid == SIDECAR_UID or each.host == _ENGINE_DNS:
            continue
        hosts.setdefault(each.port, set()).update(_loopback_hosts(each.host))
    return sorted(Candidate(port, tuple(sorted(names, key=_likelier))) for port, names in hosts.items() if names)


def _loopback_hosts(host: IPAddress) -> tuple[str, ...]:
    """
    Where a listener on `host` answers over loopback.

    A listener on `::` usually takes IPv4 too, but not always (IPV6_V6ONLY does not show in /proc); and ::1 may be
    missing although `::` was bound (IPv6 switched off by sysctl, as Docker does). So it is tried both ways.
    """
    if host.is_unspecified:
        return (_V4,) if host.version == 4 else (_V4, _V6)
    return (str(host),) if host.is_loopback else ()


def _likelier(host: str) -> tuple[bool, bool, str]:
    return host != _V4, ":" in host, host


def unreachable(listeners: Iterable[Listener]) -> list[Address]:
    """Listeners that loopback does not lead to: they are bound to another address of this namespace."""
    found = {Address(str(each.host), each.port) for each in listeners if not _loopback_hosts(each.host)}
    return sorted(found, key=str)


def parse_fib_trie(table: str) -> frozenset[str]:
    """This namespace's own IPv4 addresses, from the text of /proc/net/fib_trie, loopback left out."""
    found = set()
    last = ""
    for line in table.splitlines():
        text = line.strip()
        if text.startswith("|-- "):
            last = text[4:]
        elif text == "/32 host LOCAL" and not last.startswith("127."):
            found.add(last)
    return frozenset(found)


def parse_if_inet6(table: str) -> frozenset[str]:
    """Its own IPv6 addresses, from the text of /proc/net/if_inet6, loopback and link-local left out."""
    words = [line.split()[0] for line in table.splitlines() if line.strip()]
    found = [ipaddress.IPv6Address(bytes.fromhex(word)) for word in words]
    return frozenset(str(each) for each in found if not each.is_loopback and not each.is_link_local)


def read_listeners() -> list[Listener]:
    """Who listens here now."""
    try:
        return [_listener(*found) for found in sockdiag.listeners()]
    except OSError:  # not told in this way, by this kernel or in this container
        return [each for name in ("tcp", "tcp6") for each in parse_listeners(_table(name))]


def listening(ports: Container[int]) -> list[Listener]:
    """Who listens on one of `ports` now: cheap enough to be asked several times a second, whatever is connected."""
    try:
        return [_listener(*found) for found in sockdiag.listeners() if found[1] in ports]
    except OSError:
        return [each for each in read_listeners() if each.port in ports]


def accepted(ports: Container[int]) -> int:
    """How many connections to one of `ports` somebody here has accepted, and still has open."""
    return sum(parse_accepted(_table(name), ports) for name in ("tcp", "tcp6"))


def is_here(host: str, own: Container[str]) -> bool:
    """Whether this is an address of this namespace, which has the addresses `own` besides loopback."""
    address = _dialled(host)
    return address.is_loopback or str(address) in own


def _dialled(host: str) -> IPAddress:
    """Where a connection to this address goes: one to the unspecified address goes to loopback (tcp_v6_connect)."""
    address = _address(ipaddress.ip_address(host.partition("%")[0]).packed)
    return ipaddress.ip_address(_V4 if address.version == 4 else _V6) if address.is_unspecified else address


def takes(listeners: Iterable[Listener], host: str, port: int) -> bool:
    """Whether one of `listeners` takes connections to this address; as for `_loopback_hosts`, `::` is both families."""
    address = _dialled(host)
    return any(
        each.port == port
        and (each.host == address or (each.host.is_unspecified and each.host.version in (6, address.version)))
        for each in listeners
    )


def read_addresses() -> frozenset[str]:
    """The addresses by which others reach this namespace now."""
    return parse_fib_trie(_table("fib_trie")) | parse_if_inet6(_table("if_inet6"))


def _table(name: str) -> str:
    try:
        return Path("/proc/net", name).read_text(encoding="ascii")
    except FileNotFoundError:
        return ""  # a kernel without IPv6, or without this table


async def find_backend(
    own_ports: Container[int],
    report: Callable[[str, str], None],
    read: Callable[[], list[Listener]] = read_listeners,
) -> Candidate:
    """The one candidate, waited for as long as it takes. Raises `AmbiguousError` when there are several."""
    import anyio  # here, because `sslterm check` reads this module too, and waits for nothing

    pause, waited = _FIRST_PAUSE, 0.0
    while True:
        if candidates(read(), own_ports=own_ports):
            await anyio.sleep(_SETTLE)
            found = candidates(read(), own_ports=own_ports)
            if len(found) > 1:
                raise AmbiguousError(found)
            if found:
                return found[0]
        if waited == 0 or waited >= _REMIND_EVERY:
            report("INFO", f"backend-addr=auto: waiting for a listener in this network namespace{_hint(read())}")
            waited = 0.0
        await anyio.sleep(pause)
        waited += pause
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _hint(listeners: list[Listener]) -> str:
    others = unreachable(listeners)
    if not others:
        return ""
    return f" ({', '.join(map(str, others))} cannot be reached over loopback: set backend-addr to use it)"
