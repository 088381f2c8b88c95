"""
Which names a target has: DNS names, addresses and its SPIFFE ID, all from what the engine says of it. Pure.

A label that came with the image was written by the image's maker, who knows nothing of this host: taken for an
identity, an image from anywhere could call itself the bank's database. Such labels are not read here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from byfahrer.model import Container

COMPOSE_PROJECT: Final = "com.docker.compose.project"
COMPOSE_SERVICE: Final = "com.docker.compose.service"
STACK: Final = "com.docker.stack.namespace"
SWARM_SERVICE: Final = "com.docker.swarm.service.name"
SWARM_TASK: Final = "com.docker.swarm.task.name"

DEFAULT_TRUST_DOMAIN: Final = "byfahrer.internal"
""".internal is reserved for private use (ICANN, 2024): nobody's certificates can be mistaken for ours."""
MOST: Final = 100
"""Names of one certificate, addresses not counted: one of 100 long names is 10 KB, which every handshake carries."""
MOST_ADDRESSES: Final = 100
LOOPBACK: Final = ("127.0.0.1", "::1")

# Underscores are no part of a host name (RFC 1123), but compose puts them in, and clients look them up.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME: Final = re.compile(rf"(?:\*\.{_LABEL}\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,253}[a-z0-9_])?", re.ASCII)
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What one certificate says of its holder."""

    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    spiffe: str = ""

    @property
    def flat(self) -> tuple[str, ...]:
        """All but the SPIFFE ID."""
        return (*self.dns, *self.addresses)

    def covers(self, others: Names) -> list[str]:
        """Those of `others` that are not among these."""
        uris = [others.spiffe] if others.spiffe not in ("", self.spiffe) else []
        return sorted({*others.flat} - {*self.flat}) + uris


def names_of(target: Container, trust_domain: str, extra: Iterable[str] = ()) -> Names:
    """The names of a target. `extra` are those that its operator gave it; what is no name at all is left out."""
    wanted = [text.strip() for text in extra]
    addresses = [*(address for network in target.networks for address in network.addresses), *wanted, *LOOPBACK]
    return Names(
        dns=tuple(_distinct(_dns_names(target, wanted), MOST)),
        addresses=tuple(_distinct(filter(None, map(as_address, addresses)), MOST_ADDRESSES)),
        spiffe=spiffe_id(target, trust_domain),
    )


def spiffe_id(target: Container, trust_domain: str) -> str:
    """`spiffe://<trust domain>/ns/<project, stack or default>/svc/<service or container>`."""
    proven = _proven(target)
    stack = _segment(proven(STACK))
    space = _segment(proven(COMPOSE_PROJECT)) or stack or "default"
    service = proven(SWARM_SERVICE)
    if stack:
        service = service.removeprefix(f"{stack}_")
    name = _segment(proven(COMPOSE_SERVICE)) or _segment(service) or _segment(target.name) or target.id[:12]
    return f"spiffe://{trust_domain}/ns/{space}/svc/{name}"


def client_names(name: str, trust_domain: str) -> Names:
    """The names of a person or program that is no container; ValueError if it is no DNS name of one part."""
    if not is_dns_name(name) or not _segment(name) or "*" in name:
        raise ValueError(name)
    return Names(dns=(name,), spiffe=f"spiffe://{trust_domain}/client/{name}")


def is_dns_name(text: str) -> bool:
    """Whether a certificate could carry it as one: lower case; `*.` may stand for the first part of three or more."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None and as_address(text) is None


def is_trust_domain(text: str) -> bool:
    """As the SPIFFE ID specification has it, 2.1."""
    return _TRUST_DOMAIN.fullmatch(text) is not None and ".." not in text


def as_address(text: str) -> str | None:
    """An IP address in its shortest form."""
    try:
        return str(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        return None


def _dns_names(target: Container, wanted: Iterable[str]) -> Iterator[str]:
    """The best known first: the last ones are left out where there are too many."""
    proven = _proven(target)
    stack, service, task = proven(STACK), proven(SWARM_SERVICE), proven(SWARM_TASK)
    own = [target.name, proven(COMPOSE_SERVICE), service, target.hostname, task]
    shared: list[str] = []
    if service:
        shared = [service, f"tasks.{service}"]
        if stack and service.startswith(f"{stack}_"):
            short = service.removeprefix(f"{stack}_")
            shared += [short, f"tasks.{short}"]
    own += shared[1:]
    found = ["localhost", *wanted, *own, *(alias for network in target.networks for alias in network.aliases)]
    # The engine's resolver knows everybody with the network's name behind it, too.
    for network in target.networks:
        found += [f"{name}.{network.name}" for name in (target.name, *network.aliases, *shared)]
    for name in found:
        if is_dns_name(name.lower()):
            yield name.lower()


def _proven(target: Container) -> Callable[[str], str]:
    """Labels that whoever started the container wrote, and not whoever made its image; "" for others."""
    return lambda label: "" if label in target.inherited else target.labels.get(label, "")


def _segment(text: str) -> str:
    """`text`, if it can be a segment of a SPIFFE ID's path."""
    return text if _SEGMENT.fullmatch(text) and text not in (".", "..") else ""


def _distinct(texts: Iterable[str], most: int) -> list[str]:
    return list(dict.fromkeys(texts))[:most]
