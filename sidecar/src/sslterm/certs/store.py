"""
The certificate now in force.

`put` stages, validates and only then publishes, by replacing one reference to one immutable object: a handshake in the
relay's thread sees the old certificate or the new one whole. Whatever fails, the one in force stays in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sslterm.certs import context
from sslterm.certs.bundle import Bundle, Credentials, Rejected

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from sslterm.certs.context import Facts
    from sslterm.settings import Mode, TlsProfile


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """A bundle that was proved, and the context that serves it."""

    credentials: Credentials
    context: ssl.SSLContext
    facts: Facts
    """Of the default certificate."""

    @property
    def bundle(self) -> Bundle:
        """The default certificate."""
        return self.credentials.pairs[0]

    def __str__(self) -> str:
        """For log lines: where it is from, which one it is, for whom, until when."""
        names = self.facts.names
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        return (
            f"{self.bundle.source} for {', '.join(names[:4]) or 'no name'}{more}, "
            f"valid until {self.facts.not_after:%Y-%m-%d %H:%M} UTC, sha256 {self.bundle.fingerprint[:16]}"
        )


class Store:
    """Holds one identity. `put` from the control plane only; `context` from any thread."""

    def __init__(self, mode: Mode, profile: TlsProfile, clock: Callable[[], datetime] = _now) -> None:
        self._mode = mode
        self._profile = profile
        self._clock = clock
        self._current: Identity | None = None

    @property
    def current(self) -> Identity | None:
        """What is in force; None until the first `put`."""
        return self._current

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        if self._current is None:
            raise RuntimeError("no certificate was put into force yet")
        return self._current.context

    def put(self, credentials: Credentials) -> Identity:
        """
        Put `credentials` into force, or raise `Rejected` and change nothing.

        One that is expired or not valid yet is accepted only where none better is in force: a service that answers
        with an expired certificate can still be reached by those who look past it, one that exits cannot.
        """
        if self._current is not None and self._current.credentials == credentials:
            return self._current
        bundle = credentials.pairs[0]
        bundle.check()
        served = context.build(bundle, self._mode, self._profile)
        identity = Identity(credentials, served, context.prove(served, bundle))
        fault = self.fault(identity)
        if fault and self._current is not None and not self.fault(self._current):
            raise Rejected(f"{bundle.source}: {fault}")
        self._current = identity
        return identity

    def fault(self, identity: Identity) -> str | None:
        """Why clients would not accept `identity` at this moment, if so."""
        return identity.facts.fault(self._clock())
