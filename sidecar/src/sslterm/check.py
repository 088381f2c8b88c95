"""
`sslterm check`: does the sidecar in this network namespace answer TLS?

It is an image's HEALTHCHECK, so it runs often and in the target's memory: sockets, `ssl` and the settings, nothing
else. It asks for an ALPN id of its own, which the sidecar answers without disturbing the backend, and which tells a
sidecar from whatever else may hold the port. Whom the certificate names is not its question; where the sidecar is
`strict`, it also is whether clients can go round TLS. One that is full is well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Final

from sslterm.protocol.proxy import LOCAL
from sslterm.settings import (
    AUTO,
    AUTO_PORTS,
    CHECK_ALPN,
    Address,
    Endpoint,
    ListenWhen,
    Networks,
    SettingError,
    Settings,
    among,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT: Final = 3.0
"""Seconds for all attempts together; below any health check interval in use."""
_OPENS: Final = 1.2
"""Seconds within which a port opens after its backend's."""
_REFUSED: Final = os.strerror(errno.ECONNREFUSED)
_SILENT: Final = "no answer in time"
_NEARLY: Final = 0.9
"""Of max-connections: those that end, and the next, are not there for a moment."""

_LOOPBACK: Final = {"": ("127.0.0.1", "::1"), "0.0.0.0": ("127.0.0.1",), "::": ("::1",)}


def main(flags: Mapping[str, str]) -> int:
    """Probe the frontend that `flags` and the environment name; the exit code, with one line on stderr if not 0."""
    try:
        settings = Settings.resolve(flags, os.environ)
    except SettingError as error:
        return _fail(str(error), 2)
    faults = _probe_all(settings)
    if faults.endswith(_REFUSED) and settings.listen_when is ListenWhen.BACKEND:
        if not backend_listens(settings):
            sys.stderr.write(f"sslterm check: waiting for the backend: nothing listens on {settings.backend_addr}\n")
            return 0
        time.sleep(_OPENS)
        faults = _probe_all(settings)
    if _SILENT in faults and (full := fullness(settings)):
        sys.stderr.write(f"sslterm check: {full}\n")
        faults = ""
    if not faults and settings.strict:
        faults = bypass_of(settings)
    return _fail(faults, 1) if faults else 0


def _probe_all(settings: Settings) -> str:
    """Why no sidecar answers; empty if one does."""
    deadline = time.monotonic() + _TIMEOUT
    failures = []
    left = targets(settings.frontend_addr)
    while left:
        host, port = left.pop(0)
        share = (deadline - time.monotonic()) / (len(left) + 1)  # one that hangs must not starve the others
        reason = probe(host, port, share, settings.accept_proxy)
        if reason is None:
            return ""
        failures.append(f"{host} port {port}: {reason}")
    return "; ".join(failures)


def targets(frontend: Endpoint) -> list[tuple[str, int]]:
    """Where a sidecar with this frontend address can be reached from beside it, the likelier first."""
    if frontend is AUTO:
        return [("127.0.0.1", port) for port in AUTO_PORTS] + [("::1", port) for port in AUTO_PORTS]
    return [(host, frontend.port) for host in _LOOPBACK.get(frontend.host, (frontend.host,))]


def backend_listens(settings: Settings) -> bool:
    """Whether the backend does, as far as can be seen from here."""
    from sslterm import netns  # here, because mostly the sidecar answers, and nobody has a use for it

    backends = _backends(settings)
    if isinstance(settings.backend_addr, Address):
        own = netns.read_addresses()
        if not backends or not all(netns.is_here(host, own) for host, _ in backends):
            return True
    elif len({port for _, port in backends}) != 1:
        return False  # what the sidecar chose was the only one then; which of several it was cannot be known here
    found = netns.listening({port for _, port in backends})
    return any(netns.takes(found, host, port) for host, port in backends)


def _backends(settings: Settings) -> list[tuple[str, int]]:
    """Addresses of the backend; of all that it could be, where the sidecar chose."""
    from sslterm import netns

    wanted, front = settings.backend_addr, settings.frontend_addr
    if isinstance(wanted, Address):
        try:
            answers = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []  # a name of somewhere else, which was found when the sidecar started
        return [(str(address[0]), int(address[1])) for *_, address in answers]
    listeners = netns.read_listeners()
    if front is AUTO:  # one of these is the sidecar's, whose user is ours
        listeners = [each for each in listeners if each.port not in AUTO_PORTS or each.uid != os.geteuid()]
    found = netns.candidates(listeners, own_ports=settings.own_ports)
    return [(host, each.port) for each in found for host in each.hosts]


def fullness(settings: Settings) -> str:
    """
    That a sidecar serves as many as it may, in words; empty if it does not.

    New clients wait then, this one among them: to be restarted for that would cost those who are served. What waits in
    the kernel's queue does not count, or one that hangs would look the same.
    """
    from sslterm import capacity, netns  # here, because mostly the sidecar answers, and nobody has a use for them

    most = capacity.fit_connections(settings, lambda *_: None).max_connections
    # Calls to others have their share of the same places.
    ports = {port for _, port in targets(settings.frontend_addr)} | {each.local.port for each in settings.outbound}
    if netns.accepted(ports) < most * _NEARLY:
        return ""
    return f"full: max-connections={most} clients are served, and new ones wait"


def bypass_of(settings: Settings) -> str:
    """How clients could go round TLS at this moment; empty, if they cannot."""
    from sslterm import bypass, netns  # here, because only a strict sidecar has a use for it

    try:
        ports = bypass.audited(_backends(settings), netns.read_addresses())
        found = netns.listening(ports) if ports else []
    except OSError as error:
        return bypass.blind(error)
    return bypass.fault_of(bypass.around(found, bypass.own_addresses(settings)))


def probe(host: str, port: int, timeout: float, proxies: Networks = ()) -> str | None:
    """
    Shake hands once, within about `timeout` seconds; None if a sidecar answered, else why not.

    From an address among `proxies` a PROXY header has to come first: one by which a proxy speaks for itself.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([CHECK_ALPN])
    try:
        with socket.create_connection((host, port), timeout=timeout) as raw:
            if among(raw.getsockname()[0], proxies):
                raw.sendall(LOCAL)
            with context.wrap_socket(raw) as tls:
                chosen = tls.selected_alpn_protocol()
                _wait_for_close(tls)
    except TimeoutError:
        return _SILENT
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError):  # the second up to Python 3.11.2
        return "closed the connection during the TLS handshake"
    except ssl.SSLError as error:
        return f"does not answer TLS ({error.reason or error})"
    except OSError as error:
        return error.strerror or str(error)
    return None if chosen == CHECK_ALPN else "answers TLS, but is not sslterm"


def _wait_for_close(tls: ssl.SSLSocket) -> None:
    """Let the sidecar end the connection: leaving first would look like a client that broke off its handshake."""
    with contextlib.suppress(OSError):
        tls.recv(1)


def _fail(line: str, code: int) -> int:
    sys.stderr.write(f"sslterm check: {line}\n")
    return code
