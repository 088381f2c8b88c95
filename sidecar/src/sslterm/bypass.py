"""
Whether clients can go round TLS: does what answers on the backend's port also listen where others reach it? Pure.

A backend on loopback is reached through the sidecar only. One that listens on every address, which is what most
programs do unless told otherwise, is reached in plain text too, by whoever is in one of the target's networks; and only
from inside of the namespace can that be seen.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from sslterm.settings import SIDECAR_UID, Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sslterm.netns import Listener

MOST: Final = 8
"""Addresses that are told."""


def audited(backends: Iterable[tuple[str, int]], own: Collection[str]) -> frozenset[int]:
    """The ports to look at: those of backends in this namespace, which has the addresses `own` besides loopback."""
    return frozenset(port for host, port in backends if _is_here(host, own))


def around(listeners: Iterable[Listener]) -> tuple[str, ...]:
    """Those of `listeners`, on audited ports, that others than this namespace reach, as `host:port`."""
    # Another sidecar's port is no plaintext.
    found = {(each.port, each.host) for each in listeners if not each.host.is_loopback and each.uid != SIDECAR_UID}
    ordered = sorted(found, key=lambda each: (each[0], each[1].version, each[1].packed))
    return tuple(str(Address(str(host), port)) for port, host in ordered[:MOST])


def fault_of(found: tuple[str, ...]) -> str:
    """What was found, in words; empty for nothing."""
    return f"clients can go round TLS: the backend also listens on {', '.join(found)}" if found else ""


def _is_here(host: str, own: Collection[str]) -> bool:
    # A backend elsewhere has its plaintext on the network anyway, which is told at the start.
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.is_loopback or str(address) in own
