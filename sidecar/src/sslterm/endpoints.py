"""
From the two addresses in the settings to a bound socket and to addresses that can be dialled.

Everything that this machine or this namespace may refuse at start is refused here, as `Unable`: one line that names the
setting, and the exit code. Code 2 says "these settings can never work here", code 1 "not at the moment": a port that is
taken may be free later, a port below `ip_unprivileged_port_start` will not be permitted the next time either.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from sslterm import netns
from sslterm.relay.listener import bind, direct
from sslterm.relay.policy import Backend
from sslterm.settings import AUTO, AUTO_PORTS, Address, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Container

_PERMANENT: Final = frozenset({errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL})


class Unable(Exception):  # noqa: N818 - a refusal, not a defect
    """The sidecar cannot start: `str()` is the one line to tell."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def open_frontend(settings: Settings) -> tuple[socket.socket, Address]:
    """The listening socket that the settings ask for, and its address. Raises `Unable`."""
    wanted = settings.frontend_addr
    if isinstance(wanted, Address):
        try:
            return _listen(wanted, settings), wanted
        except OSError as error:
            raise _refused(f"frontend-addr={wanted}", [(wanted, error)]) from None
    refusals: list[tuple[Address, OSError]] = []
    for port in AUTO_PORTS:
        try:
            return _listen(Address("", port), settings), Address("", port)
        except OSError as error:
            refusals.append((Address("", port), error))
    raise _refused("frontend-addr=auto", refusals)


def open_redirect(settings: Settings, wanted: Address) -> socket.socket:
    """The listening socket for plain HTTP. Raises `Unable`."""
    try:
        return _listen(wanted, settings)
    except OSError as error:
        raise _refused(f"redirect-addr={wanted}", [(wanted, error)]) from None


def open_outbound(settings: Settings) -> list[socket.socket]:
    """The listening sockets for calls to others, in the order of the setting. Raises `Unable`."""
    opened: list[socket.socket] = []
    for each in settings.outbound:
        try:
            opened.append(_listen(each.local, settings))
        except OSError as error:
            for listener in opened:
                listener.close()
            raise _refused(f"outbound={each}", [(each.local, error)]) from None
    return opened


def try_addresses(settings: Settings) -> None:
    """Raise `Unable` for an address of our own that could not be bound at this moment."""
    for each in settings.outbound:
        try:
            bind(each.local, shared=settings.hand_over, listening=False).close()
        except OSError as error:
            raise _refused(f"outbound={each}", [(each.local, error)]) from None
    for name, wanted in (("frontend-addr", settings.frontend_addr), ("redirect-addr", settings.redirect_addr)):
        if isinstance(wanted, Address):
            try:
                bind(wanted, shared=settings.hand_over, listening=False).close()
            except OSError as error:
                raise _refused(f"{name}={wanted}", [(wanted, error)]) from None
        elif wanted is AUTO:
            _try_auto(settings)


def _try_auto(settings: Settings) -> None:
    refusals: list[tuple[Address, OSError]] = []
    for address in (Address("", port) for port in AUTO_PORTS):
        try:
            bind(address, shared=settings.hand_over, listening=False).close()
        except OSError as error:
            refusals.append((address, error))
        else:
            return
    raise _refused("frontend-addr=auto", refusals)


def _listen(address: Address, settings: Settings) -> socket.socket:
    listener = bind(address, shared=settings.hand_over)
    if settings.hand_over:
        with suppress(OSError):  # without it the kernel shares the clients out, and the one before serves its share
            direct(listener, max(netns.read_listeners().count(as_listed(listener)) - 1, 0))
    return listener


def as_listed(listener: socket.socket) -> netns.Listener:
    """How one of our own shows among those who listen here; so does any other of this user at the same address."""
    host, port = listener.getsockname()[:2]
    return netns.Listener(ipaddress.ip_address(host.partition("%")[0]), port, os.geteuid())


def _refused(setting: str, refusals: list[tuple[Address, OSError]]) -> Unable:
    reasons = [_reason(address, error) for address, error in refusals]
    if len(refusals) > 1:
        reasons = [f"{address} {reason}" for (address, _), reason in zip(refusals, reasons, strict=True)]
    lasting = all(isinstance(error, socket.gaierror) or error.errno in _PERMANENT for _, error in refusals)
    return Unable(f"{setting}: {', '.join(reasons)}", 2 if lasting else 1)


def _reason(address: Address, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"no such host ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        return "already in use in this network namespace"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this network namespace has no address {address.host}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"not permitted: this user may bind ports from {_first_free_port()} up in this network namespace"
    return error.strerror or str(error)


def _first_free_port() -> str:
    return Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii").strip()


async def find_backends(settings: Settings, report: Callable[[str, str], None]) -> tuple[Address, tuple[Backend, ...]]:
    """The backend's address, looked up or waited for, and every socket address of it. Raises `Unable`."""
    wanted = settings.backend_addr
    if isinstance(wanted, Address):
        return wanted, await _resolve(wanted, settings.own_ports, report)
    try:
        found = await netns.find_backend(settings.own_ports, report)
    except netns.AmbiguousError as error:
        choice = ", ".join(str(each.address) for each in error.candidates)
        raise Unable(f"backend-addr=auto: several listeners here, set backend-addr to one of {choice}", 2) from None
    families = {4: socket.AF_INET, 6: socket.AF_INET6}
    hosts = [ipaddress.ip_address(host) for host in found.hosts]
    return found.address, tuple(Backend(families[host.version], (str(host), found.port)) for host in hosts)


async def _resolve(
    wanted: Address, own_ports: Container[int], report: Callable[[str, str], None]
) -> tuple[Backend, ...]:
    """A host's addresses are asked for once, at start: a name server may be slow or away later."""
    try:
        answers = await anyio.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        reason = getattr(error, "strerror", None) or str(error)
        raise Unable(f"backend-addr={wanted}: {wanted.host} does not resolve ({reason})", 1 if again else 2) from None
    backends = tuple(dict.fromkeys(Backend(family, tuple(address)) for family, _, _, _, address in answers))
    here = netns.read_addresses()
    hosts = [str(each.sockaddr[0]) for each in backends]
    away = [host for host in hosts if not netns.is_here(host, here)]
    if away:
        report("WARNING", f"backend-addr={wanted}: plaintext leaves this network namespace, to {', '.join(away)}")
    if wanted.port in own_ports and len(away) < len(hosts):
        raise Unable(f"backend-addr={wanted}: leads back to this sidecar's own port {wanted.port}", 2)
    return backends
