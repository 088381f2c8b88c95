"""
Who holds which certificate: what was issued here, and what sidecars tell of theirs. For people, and for `renew`.

Nothing is lost with it that matters: a sidecar that is not in it gets a new certificate at its next word. It is written
a moment after it changed, in one piece, so that a thousand sidecars that come at once cost a write or two.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import anyio
import anyio.to_thread
from loguru import logger

from byfahrer.authority.errors import StateError
from byfahrer.authority.issuer import Issued
from byfahrer.authority.state import StateFolder
from byfahrer.authority.times import moment

FILE: Final = "ledger.json"
CLIENTS: Final = "clients.json"
"""What `byfahrer ca issue` made: a file of its own, since the daemon does not look for what others write to its own."""
FORM: Final = 1
MOST: Final = 10_000
"""Entries. The first to end goes first."""
COALESCE: Final = 2.0
"""Seconds between two writes, at least."""


def certified(issued: Issued, issuer: str, now: dt.datetime) -> dict[str, Any]:
    """The fields of a `Holder` that a certificate just issued decides; `issuer`: the mark of whoever signed it."""
    return {
        "names": list(issued.names.flat),
        "spiffe": issued.names.spiffe,
        "serial": issued.serial,
        "sha256": issued.sha256,
        "not_before": moment(issued.not_before),
        "not_after": moment(issued.not_after),
        "issued": moment(now),
        "issuer": issuer,
    }


@dataclass(slots=True, kw_only=True)
class Holder:
    """One sidecar (or client) and its certificate. Times are RFC 3339 in UTC, or empty."""

    target: str
    target_id: str = ""
    sidecar_id: str = ""
    names: list[str] = field(default_factory=list)
    spiffe: str = ""
    source: str = "authority"
    """`authority`, `files`, `acme`, `self-signed`, or `client`."""
    serial: str = ""
    sha256: str = ""
    not_before: str = ""
    not_after: str = ""
    issued: str = ""
    renews: str = ""
    """When its sidecar was told to ask again."""
    renewals: int = 0
    issuer: str = ""
    """The mark of the issuer that signed it."""
    lifetime: int = 0
    """Seconds that were asked for it."""
    failing: str = ""
    """Why it is not renewed, in its sidecar's words."""
    denied: dict[str, int] = field(default_factory=dict)
    """Clients that were refused, by reason, since the sidecar's start."""
    connections: int = 0
    requests: int = 0
    heard: str = ""
    """When its sidecar last said something new."""
    gone: bool = False
    """Whether there is no such sidecar any more; its certificate is good until it ends."""

    def ended(self, now: dt.datetime) -> bool:
        return not self.not_after or dt.datetime.fromisoformat(self.not_after) <= now

    def state(self, now: dt.datetime) -> str:
        """In one word, or a few."""
        if self.not_after and self.ended(now):
            return "expired"
        if self.gone:
            return "gone"
        return f"failing: {self.failing}" if self.failing else "valid" if self.not_after else "waiting"


class Ledger:
    """The holders, by the ID of their sidecar; and the file that they are kept in."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self._changed = anyio.Event()
        self._dirty = False
        try:
            found = read(folder, FILE)
        except StateError as error:
            folder.put_aside(FILE)
            logger.error("{}; it is put aside, and a new one is begun", error)
            found = []
        self._holders = {each.sidecar_id: each for each in found}

    def __iter__(self) -> Iterator[Holder]:
        return iter(self._holders.values())

    def of(self, sidecar_id: str) -> Holder | None:
        return self._holders.get(sidecar_id)

    def put(self, holder: Holder) -> None:
        """Note a holder, new or changed. The target's other sidecars are gone, if they have been there."""
        self._holders[holder.sidecar_id] = holder
        while len(self._holders) > MOST:
            first = min(self._holders.values(), key=lambda each: (not each.gone, each.not_after))
            del self._holders[first.sidecar_id]
        self.touch()

    def living(self, target_id: str, sidecar_ids: Iterable[str]) -> None:
        """Say which sidecars a target has; none, if it is dead itself."""
        there = set(sidecar_ids)
        for each in self._holders.values():
            if each.target_id == target_id and each.gone == (each.sidecar_id in there):
                each.gone = not each.gone
                self.touch()

    def prune(self, now: dt.datetime) -> None:
        """Forget those that are gone and whose certificate, if we gave it, has ended: of others only they knew."""
        gone = ((key, each) for key, each in self._holders.items() if each.gone)
        past = [key for key, each in gone if each.source != "authority" or each.ended(now)]
        for key in past:
            del self._holders[key]
        if past:
            self.touch()

    def touch(self) -> None:
        """Have it written soon."""
        self._dirty = True
        self._changed.set()

    async def run(self) -> None:
        """Write it whenever it changed, until cancelled; and then once more."""
        try:
            while True:
                await self._changed.wait()
                self._changed = anyio.Event()
                content = self._content()
                await anyio.to_thread.run_sync(self._write, content)
                await anyio.sleep(COALESCE)
        finally:
            if self._dirty:
                self._write(self._content())

    def _content(self) -> bytes:
        self._dirty = False
        return content_of(self._holders.values())

    def _write(self, content: bytes) -> None:
        try:
            self._folder.write(FILE, content)
        except StateError as error:  # the disk is full, say: certificates are issued all the same
            logger.warning("Who holds which certificate could not be noted: {}", error)


def read(folder: StateFolder, name: str) -> list[Holder]:
    """The holders in a file; none where there is none. StateError."""
    content = folder.read(name)
    if content is None:
        return []
    try:
        told = json.loads(content)
        if told["form"] != FORM:
            raise StateError(f"{folder.path / name}: written by another byfahrer (form {told['form']!r})")
        return [_holder(each) for each in told["holders"]]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise StateError(f"{folder.path / name}: it is damaged, and may be removed") from None


def content_of(holders: Iterable[Holder]) -> bytes:
    return json.dumps({"form": FORM, "holders": [asdict(each) for each in holders]}).encode()


def _holder(told: Mapping[str, Any]) -> Holder:
    known = {each.name: each.type for each in fields(Holder)}
    holder = Holder(**{name: value for name, value in told.items() if name in known})
    plain = Holder(target="")
    if any(type(getattr(holder, name)) is not type(getattr(plain, name)) for name in known):
        raise TypeError
    for text in (holder.not_before, holder.not_after):
        if text and dt.datetime.fromisoformat(text).tzinfo is None:
            raise ValueError
    return holder
