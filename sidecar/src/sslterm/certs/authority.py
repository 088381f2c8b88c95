"""
Certificates from byfahrer's authority, for as long as the sidecar lives.

Each is for a key of its own, made in a child process and held in memory only: what goes to the authority is the request
that the key signed. Which names it certifies is the authority's to say, from what it knows of the target.

`changed` does the renewal itself, with all its tries, and returns when the new certificate is there, so that a failing
authority is one state with a few log lines, and not an error for each try. The one in force stays in force meanwhile.
"""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from sslterm.certs import context
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.link import PATIENCE, Refused
from sslterm.certs.maker import MakerError
from sslterm.certs.renewal import OVER, Lease, spread
from sslterm.settings import ClientAuth, Mode, TlsProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sslterm.certs.context import Facts
    from sslterm.certs.health import Health
    from sslterm.certs.link import Link
    from sslterm.certs.maker import Maker

NAME: Final = "authority"
"""As messages name this source."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_FIRST_PAUSE: Final = 5.0
"""Seconds between tries while there is no certificate at all, and nothing is served."""
_MOST_REASONS: Final = 8

_LOOK: Final = 2.0
"""Seconds between looks at the clocks and at this namespace's addresses."""
_SETTLE: Final = 1.0
"""Seconds for which addresses must not have changed: IPv4 comes before IPv6, and the old one goes first."""
_MOST_LOOKS: Final = 10
_LEAST_PATIENCE: Final = 1.0
"""Seconds for an answer while time runs out; else as many as there are for any."""
_APART: Final = 5.0
"""Seconds between certificates, however often the authority asks for a renewal."""


class Authority:
    """The source behind `--authority`."""

    def __init__(
        self,
        link: Link,
        maker: Maker,
        addresses: Callable[[], frozenset[str]],
        health: Health,
        report: Callable[[str, str], None],
    ) -> None:
        self._link = link
        self._maker = maker
        self._addresses = addresses
        self._health = health
        self._report = report
        self._made: Mapping[str, str] | None = None
        """A key for which there is no certificate yet, and its request."""
        self._ready: Credentials | None = None
        """Obtained, and not handed over yet."""
        self._lease: Lease | None = None
        self._named: frozenset[str] = frozenset()
        self._asked = anyio.Event()
        self._failures = 0
        """Renewals of this certificate that failed so far."""
        self._told = -1
        """The stage of its life at which that was told last."""

    async def obtain(self) -> Credentials:
        """A certificate for a new key. The first is waited for as long as it takes; later ones raise `Rejected`."""
        if self._ready is None:
            if self._lease is None:
                await self._first()
            else:
                await self._fetch(self._lease)
        credentials, self._ready = self._ready, None
        if credentials is None:
            raise RuntimeError("a certificate was fetched, and is not there")
        return credentials

    async def changed(self) -> None:
        """Return when there is a new one."""
        if self._lease is None or self._ready is not None:
            return
        await self._until_due(self._lease)
        await self._renew(self._lease)

    def ask_for_renewal(self) -> None:
        """The authority wants this certificate to be replaced soon."""
        self._asked.set()

    async def _until_due(self, lease: Lease) -> None:
        while (left := lease.due_in()) > 0:
            if self._asked.is_set() and lease.age() >= _APART:
                return
            with anyio.move_on_after(min(left, _LOOK)):
                await (anyio.sleep(_LOOK) if self._asked.is_set() else self._asked.wait())
            if await self._moved():
                return

    async def _moved(self) -> bool:
        """This namespace has other addresses than when the certificate was issued."""
        now = self._look()
        for _ in range(_MOST_LOOKS):
            if now == self._named:
                return False
            await anyio.sleep(_SETTLE)
            before, now = now, self._look()
            if now == before:
                return True
        return True

    def _look(self) -> frozenset[str]:
        try:
            return self._addresses()
        except OSError:  # no descriptor left, mostly: traffic goes on, and the next look may see more
            return self._named

    async def _first(self) -> None:
        pause = _FIRST_PAUSE
        told: set[str] = set()
        while True:
            try:
                return await self._fetch(None)
            except Rejected as error:
                reason = str(error)
                self._health.failed(reason)
                if reason not in told and len(told) < _MOST_REASONS:
                    told.add(reason)
                    self._report("WARNING", f"No certificate yet, so nothing is served: {reason}; trying again")
                retry_after = getattr(error, "retry_after", 0.0)
            await anyio.sleep(max(spread(pause, 0.2), retry_after))
            pause = min(pause * 1.5, _LONGEST_FIRST_PAUSE)

    async def _renew(self, lease: Lease) -> None:
        while True:
            try:
                return await self._fetch(lease)
            except Rejected as error:
                self._failures += 1
                self._health.failed(str(error))
                stage = lease.stage()
                if stage > self._told:
                    self._told = stage
                    self._tell(lease, stage, error)
                pause = lease.pause(self._failures, getattr(error, "retry_after", 0.0))
            await anyio.sleep(pause)

    def _tell(self, lease: Lease, stage: int, error: Rejected) -> None:
        end = f"{datetime.fromtimestamp(lease.not_after, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if stage == OVER:
            self._report("ERROR", f"Certificate expired on {end}, clients will not accept it; not renewed: {error}")
        else:
            level = "ERROR" if stage else "WARNING"
            self._report(level, f"Certificate not renewed, the one in force expires on {end}: {error}; trying again")

    async def _fetch(self, lease: Lease | None) -> None:
        """Put a new certificate into `_ready`. Raises `Rejected`."""
        left = lease.left() if lease is not None else 0.0
        patience = max(min(PATIENCE, left / 4), _LEAST_PATIENCE) if left > 0 else PATIENCE
        named = self._look()
        made = self._made
        if made is None:
            try:
                made = await anyio.to_thread.run_sync(self._maker.make, {"make": "request"}, abandon_on_cancel=True)
            except MakerError as error:
                raise Refused(f"a key for the authority: {error}") from None
            self._made = made
        issued = await self._link.certificate(made["request"], patience)
        self._made = None  # a key that was certified once, even badly, is not used again
        credentials = Credentials((Bundle(issued.chain, made["key"].encode(), NAME, NAME),), issued.authorities)
        facts = _prove(credentials)
        self._lease = Lease.begin(facts.not_after.timestamp(), issued.renew_in)
        self._named = named
        self._asked = anyio.Event()
        self._failures, self._told = 0, -1
        self._ready = credentials


def _prove(credentials: Credentials) -> Facts:
    """What the certificate says of itself, if it can be served now; else `Rejected`: then it is tried again here."""
    bundle = credentials.pairs[0]
    bundle.check()
    facts = context.prove(context.build(bundle, Mode.TCP, TlsProfile.INTERMEDIATE), bundle)
    fault = facts.fault(datetime.fromtimestamp(time.time(), UTC))
    if fault:
        raise Rejected(f"{NAME}: gave a certificate that is {fault}")
    context.ask_clients(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ClientAuth.OPTIONAL, credentials.authorities, NAME)
    return facts
