"""
The certificates now in force.

`put` stages, validates and only then publishes, by replacing one reference to one immutable object: a handshake in the
relay's thread sees what was in force or what is, whole. Each part stands for itself: a pair, or the authorities, that
cannot be served stays as it was, and the others go on.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sslterm.certs import context
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.names import Contexts
from sslterm.settings import ClientAuth

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.certs.context import Facts
    from sslterm.settings import Mode, TlsProfile


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """Credentials that were proved, and the context that serves them."""

    credentials: Credentials
    """What is in force, which is not always all that was put."""
    context: ssl.SSLContext
    every: tuple[Facts, ...]
    """Of each pair, in their order."""
    client: ssl.SSLContext | None = None
    """The context by which others are called with the default certificate; None where nobody is."""

    @property
    def bundle(self) -> Bundle:
        """The default certificate."""
        return self.credentials.pairs[0]

    @property
    def facts(self) -> Facts:
        """Of the default certificate."""
        return self.every[0]

    def __str__(self) -> str:
        """For log lines: where it is from, which one it is, for whom, until when."""
        names = self.facts.names
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        others = f"; {len(self.every) - 1} more by name" if len(self.every) > 1 else ""
        return (
            f"{self.bundle.source} for {', '.join(names[:4]) or 'no name'}{more}, "
            f"valid until {self.facts.not_after:%Y-%m-%d %H:%M} UTC, sha256 {self.bundle.fingerprint[:16]}{others}"
        )


class Store:
    """Holds one identity. `put` and `rotate` from the control plane only; contexts and `own_uri` from any thread."""

    def __init__(
        self,
        mode: Mode,
        profile: TlsProfile,
        client_auth: ClientAuth = ClientAuth.NONE,
        clock: Callable[[], datetime] = _now,
        *,
        calls: bool = False,
    ) -> None:
        """`calls`: others are called, too, and theirs are the same authorities as clients'."""
        self._mode = mode
        self._profile = profile
        self._client_auth = client_auth
        self._clock = clock
        self._calls = calls
        self._contexts = Contexts(mode, profile, client_auth)
        self._current: Identity | None = None
        self._told: frozenset[str] = frozenset()
        self.refused: tuple[str, ...] = ()
        """Lines about what the last `put` left as it was, or left out, but for those that an earlier one told."""

    @property
    def current(self) -> Identity | None:
        """What is in force; None until the first `put`."""
        return self._current

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        if self._current is None:
            raise RuntimeError("no certificate was put into force yet")
        return self._current.context

    def client(self) -> ssl.SSLContext:
        """The context for the next call to somebody else."""
        if self._current is None or self._current.client is None:
            raise RuntimeError("nobody was to be called, or there is no certificate yet")
        return self._current.client

    def own_uri(self) -> str:
        """The SPIFFE ID in the default certificate; empty if it has none."""
        return "" if self._current is None else self._current.facts.spiffe_id

    def put(self, credentials: Credentials) -> Identity:
        """
        Put `credentials` into force, as far as they can be served; what is in force then.

        A pair that cannot be served stays as it was before, and is left out if it is new; `refused` says so. Raises
        `Rejected`, and changes nothing, where that leaves nothing to change, or no pair at all.

        One that is expired or not valid yet is accepted only where none better is in force, and none is the default: a
        service that answers with an expired certificate can still be reached by those who look past it, one that exits
        cannot.
        """
        current = self._current
        known = dict(zip(current.credentials.pairs, current.every, strict=True)) if current is not None else {}
        proved: dict[Bundle, Facts] = {}
        faults = list(credentials.faults)
        for bundle in credentials.pairs:
            before = self._before(bundle, credentials)
            try:
                facts = known.get(bundle) or self._prove(bundle)
                self._refuse_late(bundle, facts, known.get(before) if before is not None else None, first=not proved)
                proved[bundle] = facts
            except Rejected as error:
                faults.append(str(error))
                if before is not None:
                    proved[before] = known[before]
        if not proved:
            raise Rejected("; ".join(faults))
        wanted = replace(credentials, pairs=tuple(proved), faults=(), **self._believed(credentials, faults))
        changed = current is None or current.credentials != wanted
        if faults and not changed:
            self._told |= frozenset(faults)
            raise Rejected("; ".join(faults))
        if changed:
            front = self._contexts.front(wanted, [facts.hosts for facts in proved.values()])
            current = Identity(wanted, front, tuple(proved.values()), self._client(wanted))
        assert current is not None  # noqa: S101 - for the type checker: it has just been made
        self.refused = tuple(each for each in faults if each not in self._told)
        self._told = frozenset(faults)
        self._current = current
        return current

    def rotate(self) -> Identity:
        """New keys for session tickets; everything else stays as it is."""
        if self._current is None:
            raise RuntimeError("no certificate was put into force yet")
        hosts = [facts.hosts for facts in self._current.every]
        self._current = replace(self._current, context=self._contexts.front(self._current.credentials, hosts))
        return self._current

    def fault(self, identity: Identity) -> str | None:
        """Why clients would not accept `identity` at this moment, if so."""
        return identity.facts.fault(self._clock())

    def _before(self, bundle: Bundle, credentials: Credentials) -> Bundle | None:
        """What is in force in place of `bundle`."""
        if self._current is None:
            return None
        pairs = self._current.credentials.pairs
        if len(pairs) == len(credentials.pairs) == 1:
            return pairs[0]
        return next((each for each in pairs if each.source == bundle.source), None)

    def _prove(self, bundle: Bundle) -> Facts:
        bundle.check()
        return context.prove(context.build(bundle, self._mode, self._profile), bundle)

    def _refuse_late(self, bundle: Bundle, facts: Facts, before: Facts | None, *, first: bool) -> None:
        """Raise `Rejected` for what clients would not accept now, unless there is nothing better."""
        fault = facts.fault(self._clock())
        if fault and (not first if before is None else not before.fault(self._clock())):
            raise Rejected(f"{bundle.source}: {fault}")

    def _client(self, credentials: Credentials) -> ssl.SSLContext | None:
        if not self._calls:
            return None
        return context.build_client(
            credentials.pairs[0], self._profile, credentials.authorities, credentials.authorities_source
        )

    def _believed(self, credentials: Credentials, faults: list[str]) -> dict[str, Any]:
        """The authorities to believe: those of `credentials`, else those in force, with a line in `faults`."""
        if self._client_auth is ClientAuth.NONE and not self._calls:
            return {"authorities": b""}  # they change nothing, whatever they are
        try:
            context.ask_clients(
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
                ClientAuth.OPTIONAL,
                credentials.authorities,
                credentials.authorities_source,
            )
        except Rejected as error:
            if self._current is None:
                raise
            faults.append(str(error))
            before = self._current.credentials
            return {"authorities": before.authorities, "authorities_source": before.authorities_source}
        return {}
