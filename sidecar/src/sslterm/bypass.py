"""
Whether clients can go round TLS: does what answers on the backend's port also listen where others reach it? Pure.

A backend on loopback is reached through the sidecar only. One that listens on every address, which is what most
programs do unless told otherwise, is reached in plain text too, by whoever is in one of the target's networks; and only
from inside of the namespace can that be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sslterm.netns import is_here
from sslterm.settings import Address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sslterm.netns import Listener
    from sslterm.settings import Settings

MOST: Final = 8
"""Addresses that are told."""
_EVERY: Final = ("::", "0.0.0.0")


def audited(backends: Iterable[tuple[str, int]], own: Collection[str]) -> frozenset[int]:
    """The ports to look at: those of backends in this namespace, which has the addresses `own` besides loopback."""
    # A backend elsewhere has its plaintext on the network anyway, which is told at the start.
    return frozenset(port for host, port in backends if is_here(host, own))


def own_addresses(settings: Settings) -> frozenset[Address]:
    """Where the sidecar itself listens for clients, as the kernel tells of it. `auto` takes no port of a backend."""
    wanted = [each for each in (settings.frontend_addr, settings.redirect_addr) if isinstance(each, Address)]
    return frozenset(Address(host, each.port) for each in wanted for host in ([each.host] if each.host else _EVERY))


def around(listeners: Iterable[Listener], own: Collection[Address] = ()) -> tuple[str, ...]:
    """Those of `listeners`, on audited ports, that others than this namespace reach, as `host:port`; not our `own`."""
    # By address and not by uid: an image may give its program the sidecars' uid.
    reached = {(each.port, each.host) for each in listeners if not each.host.is_loopback}
    ordered = sorted(reached, key=lambda each: (each[0], each[1].version, each[1].packed))
    found = [Address(str(host), port) for port, host in ordered]
    return tuple([str(each) for each in found if each not in own][:MOST])


def fault_of(found: tuple[str, ...]) -> str:
    """What was found, in words; empty for nothing."""
    return f"clients can go round TLS: the backend also listens on {', '.join(found)}" if found else ""


def blind(error: OSError) -> str:
    """That nobody knows, since the kernel does not say who listens, in words."""
    return f"cannot look whether clients can go round TLS: {error.strerror or error}"
