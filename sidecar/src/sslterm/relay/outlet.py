"""A listener for this namespace's own programs, who call others through it: what it accepts is no client of ours."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from sslterm.relay.listener import Listener
from sslterm.relay.outbound import OutboundConnection
from sslterm.relay.resolver import Resolver
from sslterm.relay.tally import OUTBOUND

if TYPE_CHECKING:
    import socket

    from sslterm.relay.base import BaseConnection
    from sslterm.relay.loop import Relay
    from sslterm.relay.policy import Backend, Policy
    from sslterm.settings import Outbound


class Outlet(Listener):
    """Shares the limits of the other listeners: `max_connections`, and what a drain does."""

    __slots__ = ("_own_ports", "outbound", "resolver")

    def __init__(self, relay: Relay, listener: socket.socket, policy: Policy, outbound: Outbound) -> None:
        super().__init__(relay, listener, policy)
        self._counter = OUTBOUND
        self._own_ports = frozenset(each.local.port for each in policy.settings.outbound)
        self.outbound = outbound
        self.resolver = Resolver(relay, outbound.remote)

    def _take(self, client: socket.socket, peer: tuple[Any, ...]) -> BaseConnection:
        return OutboundConnection(self, client, peer)

    def leads_back(self, address: Backend) -> bool:
        """Whether one of our own outlets is there: a call would call itself until there is no room."""
        if self.outbound.remote.port not in self._own_ports:
            return False
        host = ipaddress.ip_address(str(address.sockaddr[0]).partition("%")[0])
        host = getattr(host, "ipv4_mapped", None) or host
        return host.is_loopback or host.is_unspecified
