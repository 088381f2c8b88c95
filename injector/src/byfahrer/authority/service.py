"""
The authority's answers: who asks, whether they still exist, which names they may have, and whether they may ask again.

Whom a token names is looked up on the engine for each certificate: what was true a second ago is no reason to sign. A
sidecar's word about itself (`status`) comes every few seconds from each, and is answered from what the reconciler saw.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import anyio
from loguru import logger

from byfahrer import labels
from byfahrer.authority.certificates import read_request
from byfahrer.authority.errors import AuthorityError, RequestError
from byfahrer.authority.heartbeat import Heartbeat
from byfahrer.authority.issuer import Issued, Issuer
from byfahrer.authority.ledger import Holder, Ledger, certified
from byfahrer.authority.names import Names, names_of
from byfahrer.authority.report import Report
from byfahrer.authority.times import moment, utc
from byfahrer.authority.tokens import Bearer, Tokens
from byfahrer.authority.wish import LIFETIME, Wish, read_wish
from byfahrer.engine.errors import EngineError, NotFoundError
from byfahrer.engine.interface import Engine
from byfahrer.model import NO_SERVICE, Container, Observed, Service, Status
from byfahrer.serving.limits import Buckets, Seldom

CERTIFICATES: Final = (10, 5.0)
"""At once, and then one every so many seconds: a leaf of a minute is renewed every 30, and networks may come and go."""
WORDS: Final = (20, 1.0)
COMPLAINTS: Final = (10, 60.0)
"""Lines in the log about one sidecar's certificate: it may say another reason each second."""
AGAIN: Final = 10.0
"""Seconds between a sidecar's words, and so until it hears of a new name or root."""
WORDS_PER_SECOND: Final = 4
"""Of all sidecars together: where there are more than forty, they are asked to speak less often."""
WARN_EVERY: Final = 86400.0
LOOK_AFTER: Final = 3600.0
"""Seconds between looks at what has ended."""


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that gets no for an answer."""

    def __init__(self, status: int, text: str, *, who: str = "", retry_after: int = 0) -> None:
        super().__init__(text)
        self.status = status
        self.who = who
        """The target, as far as it is known, for the log."""
        self.retry_after = retry_after


class Issuers(Protocol):
    """Where the issuer comes from that signs now: `ca.OwnRoot`, `brought.Brought`."""

    def issuer(self) -> Issuer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A living target, as it was seen last."""

    name: str
    names: Names
    lifetime: float
    sidecars: frozenset[str]


class Authority:
    """Answers sidecars. `seen` is to be called with whatever the reconciler observes."""

    def __init__(
        self,
        engine: Engine,
        issuers: Issuers,
        tokens: Tokens,
        ledger: Ledger,
        *,
        lifetime: float = LIFETIME,
        wish: Callable[[Container, Mapping[str, str], Mapping[str, str]], Wish] = read_wish,
        now: Callable[[], dt.datetime] = utc,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._issuers = issuers
        self._tokens = tokens
        self.ledger = ledger
        self._lifetime = lifetime
        self._wish = wish
        self._now = now
        self._known: dict[str, Known] = {}
        self._told: dict[str, Report] = {}
        """The last word of each sidecar that is expected to speak, by its ID."""
        self.heartbeat = Heartbeat(clock)
        self._certificates = Buckets(*CERTIFICATES, clock=clock)
        self._words = Buckets(*WORDS, clock=clock)
        self._complaints = Buckets(*COMPLAINTS, clock=clock)
        self._warnings = Seldom(WARN_EVERY, clock=clock)

    def token(self, target_id: str, sidecar_id: str) -> str:
        """The token to be put into this sidecar, and nowhere else."""
        return self._tokens.make(target_id, sidecar_id)

    def issuer(self) -> Issuer:
        """What signs now, with the roots to believe."""
        return self._issuers.issuer()

    def seen(self, observed: Observed) -> None:
        """Keep what is known of a target, or forget it if it is dead or has no sidecar."""
        target = observed.target
        there = frozenset(each.id for each in observed.sidecars) if target is not None and target.alive else frozenset()
        self.ledger.living(observed.target_id, there)
        self._heed(observed, there)
        if target is None or not there:
            self._known.pop(observed.target_id, None)
            return
        by_hand = dict(observed.by_hand)
        for sidecar in observed.sidecars:
            by_hand |= labels.wish_of(sidecar)
        self._known[target.id] = self._knowledge(target, observed.service, by_hand, there)

    def word_of(self, sidecar_id: str) -> Report | None:
        """What a sidecar said last to this process, while it runs."""
        return self._told.get(sidecar_id)

    def ready(self, sidecar: Container) -> bool | None:
        """Whether a sidecar says that it serves; None where it has not said."""
        word = self._told.get(sidecar.id)
        return word.ready if word is not None else None

    async def certificate(self, token: str, request: bytes) -> dict[str, Any]:
        """A chain for the key in `request`, with all the names that its sender has. Refused."""
        bearer = self._bearer(token)
        self._limit(self._certificates, bearer)
        try:
            public_key, asked = read_request(request)
        except RequestError as error:
            raise Refused(400, str(error), who=self._who(bearer)) from None
        known = await self._look(bearer)
        foreign = known.names.covers(asked)
        if foreign:
            names = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
            raise Refused(403, f"'{known.name}' may not have the names {names}", who=known.name)
        now = self._now()
        try:
            issuer = self._issuers.issuer()
            issued = issuer.issue(public_key, known.names, dt.timedelta(seconds=known.lifetime), now)
        except AuthorityError as error:
            raise Refused(503, str(error), who=known.name, retry_after=60) from None
        lifetime = int((issued.not_after - now).total_seconds())
        self._note(bearer, known, issued, issuer.mark, now, lifetime)
        logger.debug("Certificate {} for '{}', {} s", issued.serial, known.name, lifetime)
        return {
            "chain": issued.chain,
            "authorities": issuer.authorities,
            "lifetime": lifetime,
            "renew_in": lifetime // 2,
        }

    async def authorities(self, token: str) -> dict[str, Any]:
        """The roots to believe. Refused."""
        bearer = self._bearer(token)
        self._limit(self._words, bearer)
        await self._recall(bearer)
        return {"authorities": self._issuers.issuer().authorities}

    async def status(self, token: str, report: Report) -> dict[str, Any]:
        """Take a sidecar's word about itself, and tell it whether it should ask for another certificate. Refused."""
        bearer = self._bearer(token)
        self.heartbeat.came(bearer.sidecar_id, bearer.target_id)
        self._limit(self._words, bearer)
        known = await self._recall(bearer)
        holder = self._hear(bearer, known, report)
        self._told[bearer.sidecar_id] = report
        again_in = round(max(AGAIN, len(self._known) / WORDS_PER_SECOND))
        self.heartbeat.answered(bearer.sidecar_id, again_in)
        return {"renew": report.source == "authority" and self._outdated(holder, known, report), "again_in": again_in}

    async def run(self) -> None:
        """Keep the ledger, and tell people in time of what ends."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.ledger.run)
            while True:
                self.look_after()
                await anyio.sleep(LOOK_AFTER)

    def look_after(self) -> None:
        """What is to be done from time to time."""
        self.ledger.prune(self._now())
        warning = self._issuers.issuer().warning(self._now())
        if warning and self._warnings.again(warning) is not None:
            logger.warning("{}: renew it (byfahrer ca rotate, or other files for --ca-cert and --ca-key)", warning)

    def _heed(self, observed: Observed, there: frozenset[str]) -> None:
        self.heartbeat.met(observed.target_id, [each for each in observed.sidecars if each.id in there])
        self._told = {key: report for key, report in self._told.items() if self.heartbeat.knows(key)}

    def _bearer(self, token: str) -> Bearer:
        bearer = self._tokens.read(token)
        if bearer is None:
            raise Refused(401, "this token is none of ours (if the state folder was lost, a new token follows)")
        return bearer

    def _limit(self, buckets: Buckets, bearer: Bearer) -> None:
        wait = buckets.take(bearer.sidecar_id)
        if wait:
            raise Refused(429, "too many requests", who=self._who(bearer), retry_after=math.ceil(wait))

    async def _recall(self, bearer: Bearer) -> Known:
        """What is known of the target, by the engine if need be."""
        known = self._known.get(bearer.target_id)
        return known if known is not None and bearer.sidecar_id in known.sidecars else await self._look(bearer)

    async def _look(self, bearer: Bearer) -> Known:
        """What the engine says of the two now. Refused, unless both are there and belong together."""
        who = self._who(bearer)
        try:
            sidecar = await self._inspect(bearer.sidecar_id)
            if sidecar is None or labels.target_of(sidecar) != bearer.target_id or sidecar.status in _OVER:
                raise Refused(401, "this token is revoked: its sidecar is gone", who=who)
            target = await self._inspect(bearer.target_id)
            if target is None or not target.alive:
                self._known.pop(bearer.target_id, None)
                raise Refused(403, "this token's target is gone", who=who)
            service: Service | None = NO_SERVICE
            if labels.SWARM_SERVICE in target.labels:
                service = await self._engine.service(target.labels[labels.SWARM_SERVICE])
        except EngineError as error:
            logger.debug("'{}' gets no answer now: {}", who, error)
            raise Refused(503, "the engine does not answer", who=who, retry_after=5) from None
        before = self._known.get(target.id)
        there = before.sidecars if before else frozenset()
        known = self._knowledge(target, service or NO_SERVICE, labels.wish_of(sidecar), there | {sidecar.id})
        self._known[target.id] = known
        return known

    async def _inspect(self, container_id: str) -> Container | None:
        try:
            found = await self._engine.inspect(container_id)
        except NotFoundError:
            return None
        return found if found.id == container_id else None  # another, which has this ID for a name

    def _knowledge(
        self, target: Container, service: Service, by_hand: Mapping[str, str], sidecars: frozenset[str]
    ) -> Known:
        wish = self._wish(target, service.labels, by_hand)
        issuer = self._issuers.issuer()
        # Whose task it is, an image can say too.
        shared = () if labels.SWARM_SERVICE in target.inherited else service.addresses
        return Known(
            name=target.name,
            names=issuer.constraints.within(names_of(target, issuer.trust_domain, (*wish.names, *shared))),
            lifetime=wish.lifetime or self._lifetime,
            sidecars=sidecars,
        )

    def _note(self, bearer: Bearer, known: Known, issued: Issued, mark: str, now: dt.datetime, lifetime: int) -> None:
        before = self.ledger.of(bearer.sidecar_id)
        self.ledger.put(
            replace(
                before or Holder(target=known.name),
                target=known.name,
                target_id=bearer.target_id,
                sidecar_id=bearer.sidecar_id,
                source="authority",
                renews=moment(now + dt.timedelta(seconds=lifetime // 2)),
                renewals=before.renewals + 1 if before and before.serial else 0,
                lifetime=round(known.lifetime),
                failing="",
                gone=False,
                **certified(issued, mark, now),
            )
        )

    def _hear(self, bearer: Bearer, known: Known, report: Report) -> Holder:
        """Note what a sidecar says, as far as it is new."""
        before = self.ledger.of(bearer.sidecar_id)
        plain = Holder(target=known.name, target_id=bearer.target_id, sidecar_id=bearer.sidecar_id)
        now = replace(report.told_by(before or plain), target=known.name)
        if before is not None and replace(now, connections=before.connections, requests=before.requests) == before:
            before.connections, before.requests = now.connections, now.requests  # not worth a write
            return before
        now.heard = moment(self._now())
        failed = before.failing if before is not None else ""
        if now.failing == failed or self._complaints.take(bearer.sidecar_id):
            pass
        elif now.failing:
            ends = now.not_after or "no known time"
            logger.warning("'{}': its certificate is not renewed: {}; it ends at {}", now.target, now.failing, ends)
        else:
            logger.info("'{}': its certificate is renewed again", now.target)
        self.ledger.put(now)
        return now

    def _outdated(self, holder: Holder, known: Known, report: Report) -> bool:
        return (
            holder.serial != report.serial
            or set(holder.names) != set(known.names.flat)
            or holder.spiffe != known.names.spiffe
            or holder.issuer != self._issuers.issuer().mark
            or holder.lifetime != round(known.lifetime)
        )

    def _who(self, bearer: Bearer) -> str:
        known = self._known.get(bearer.target_id)
        return known.name if known else bearer.target_id[:12]


_OVER: Final = (Status.EXITED, Status.DEAD, Status.REMOVING)
