"""How one listener's connections are accepted, and how the other side is reached."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sslterm.access_log import AccessLog
from sslterm.relay.tally import Tally
from sslterm.settings import Outbound, Settings


class Backend(NamedTuple):
    """One socket address of the backend."""

    family: int
    sockaddr: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that a connection has to know besides its two sockets."""

    settings: Settings
    context: Callable[[], ssl.SSLContext]
    """The certificate now in force, for the side of the handshake that is ours: called once for each connection."""
    own_uri: Callable[[], str] = lambda: ""
    """The SPIFFE ID in the certificate now in force; empty if it has none."""
    challenge: Callable[[], ssl.SSLContext | None] = lambda: None
    """The context that answers ACME's tls-alpn-01 (RFC 8737), while a name is being proved."""
    backends: tuple[Backend, ...] = ()
    """Tried in this order."""
    outbound: Outbound | None = None
    """Whom to call for those who connect here; None where they are clients of the backend."""
    access_log: AccessLog | None
    report: Callable[[str, str], None]
    """Takes a level and a line for the sidecar's own log; called on the relay's thread."""
    tally: Tally = field(default_factory=Tally)
    refused: Callable[[], None] = lambda: None
    """Called when the backend refuses a connection; on the relay's thread."""
    full: Callable[[], None] = lambda: None
    """Called when a client has to wait because there are too many connections, and none here can make room."""
