"""
What is known of Swarm services on this node: from its own engine, from a manager's byfahrer, or from before.

Only managers can read services. Whatever was learned last is kept in the state folder, so that a node that is cut off
from all managers, and starts anew meanwhile, goes on with what it knew. No I/O but that.

Who may deploy services writes what is in here, and one of them must not keep others from being heard of: a service with
more on it than anybody means is left out, and of all too many the largest are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeGuard

import anyio
from loguru import logger

from byfahrer import labels
from byfahrer.authority.errors import StateError
from byfahrer.authority.names import as_address
from byfahrer.authority.state import StateFolder
from byfahrer.model import Service, one_line

FILE: Final = "services.json"
FORM: Final = 1
MOST: Final = 10_000
"""Services, and as many that are gone: a Swarm has some hundred."""
MOST_OF_ONE: Final = 65_536
"""Characters on one service: a thousand of ours have 300 each."""
MOST_OF_ALL: Final = 4 * 1024**2
"""Characters on all together."""


class DirectoryError(ValueError):
    """What should be a directory is none."""


class Directory:
    """Services by their IDs. `changed` is set, and replaced, when there is something new."""

    def __init__(self, folder: StateFolder | None = None, more: Iterable[str] = ()) -> None:
        """With what is kept in the state folder. `more`: labels that matter beside ours."""
        self._folder = folder
        self._more = frozenset(more)
        self._services: dict[str, Service] = {}
        self._left_out: frozenset[str] = frozenset()
        self.manages = False
        """Whether this node's own engine told of services when it was asked last: others may ask us."""
        self.changed = anyio.Event()
        self.mark = ""
        """Which directory this is: the same on every node that knows the same."""
        if folder is not None:
            try:
                self._recall(folder)
            except (StateError, ValueError, RecursionError) as error:
                # Managers will say it again.
                logger.warning("What was known of services cannot be read ({}); managers are asked", error)

    @classmethod
    def kept(cls, folder: StateFolder) -> Directory | None:
        """What the daemon with this state folder knows, for a command beside it; None if nothing. Writes nothing."""
        found = cls()
        try:
            there = found._recall(folder)
        except (StateError, ValueError, RecursionError):
            return None
        return found if there else None

    def services(self) -> Mapping[str, Service]:
        """All that are known."""
        return self._services

    def service(self, service_id: str) -> Service | None:
        """One of them; None if it was never heard of, or is gone: nobody can say what it asks for."""
        return self._services.get(service_id)

    def learn(self, found: Mapping[str, Service]) -> None:
        """Take what this node's own engine knows now."""
        self.manages = True
        self.hear(found)

    def missed(self) -> None:
        """Its engine cannot tell of services. Who waits for news from here has to ask somebody else."""
        if self.manages:
            self.manages = False
            self._wake()

    def hear(self, found: Mapping[str, Service]) -> None:
        """Take what a manager knows now; all others are gone."""
        kept = self._bounded({key: self._concise(each) for key, each in found.items()})
        mark = _mark(kept)
        if mark == self.mark:
            return
        self._services, self.mark = kept, mark
        self._wake()
        if self._folder is not None:
            try:
                self._folder.write(FILE, json.dumps({"form": FORM, "services": self.told()}).encode())
            except StateError as error:  # it is known all the same, until the next start
                logger.warning("What is known of services is not kept: {}", error)

    def _wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    def _bounded(self, found: Mapping[str, Service]) -> dict[str, Service]:
        """As many as may be, the small ones first."""
        kept: dict[str, Service] = {}
        total = 0
        for size, key in sorted((_size(each), key) for key, each in found.items()):
            total += size
            if size > MOST_OF_ONE or total > MOST_OF_ALL or len(kept) >= MOST:
                break
            kept[key] = found[key]
        left_out = frozenset(found.keys() - kept.keys())
        if left_out - self._left_out:
            shown = ", ".join(one_line(key, 30) for key in sorted(left_out)[:3])
            logger.error(
                "{} service(s) are too large to be told of ({}): expected at most {} characters on each, {} in all",
                len(left_out), shown, MOST_OF_ONE, MOST_OF_ALL,
            )  # fmt: skip
        self._left_out = left_out
        return dict(sorted(kept.items()))

    def told(self) -> dict[str, Any]:
        """What others are told, as JSON."""
        return {
            key: {"labels": dict(each.labels), "addresses": list(each.addresses), "secrets": dict(each.secrets)}
            for key, each in self._services.items()
        }

    def _concise(self, service: Service) -> Service:
        """Without labels that mean nothing to us, which are nobody else's business, and addresses that are none."""
        kept = {label: value for label, value in service.labels.items() if label in self._more or labels.is_ours(label)}
        addresses = filter(None, map(as_address, service.addresses))
        return replace(service, labels=kept, addresses=tuple(addresses))

    def _recall(self, folder: StateFolder) -> bool:
        """Whether something was kept. StateError, ValueError."""
        content = folder.read(FILE)
        if content is None:
            return False
        kept = json.loads(content)
        if not isinstance(kept, dict) or kept.get("form") != FORM:
            raise DirectoryError(f"{FILE} has another form")
        self._services = self._bounded(read(kept.get("services")))
        self.mark = _mark(self._services)
        return True


def read(told: object) -> dict[str, Service]:
    """What `Directory.told` said, without services that make no sense. DirectoryError."""
    if not isinstance(told, dict):
        raise DirectoryError("expected services by their IDs")
    found = {key: _service(each) for key, each in told.items()}
    return {key: each for key, each in found.items() if each is not None}


def _service(told: object) -> Service | None:
    """One that another version tells of in another way is as good as unknown."""
    if not isinstance(told, dict):
        return None
    labelled, addresses, secrets = told.get("labels"), told.get("addresses"), told.get("secrets")
    if not (_texts(labelled) and isinstance(addresses, list) and _texts(secrets)):
        return None
    if not all(isinstance(each, str) for each in addresses):
        return None
    return Service(labels=dict(labelled), addresses=tuple(addresses), secrets=dict(secrets))


def _texts(value: object) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _size(service: Service) -> int:
    texts = (*service.labels.items(), *service.secrets.items(), *((each, "") for each in service.addresses))
    return sum(len(name) + len(value) for name, value in texts)


def _mark(services: Mapping[str, Service]) -> str:
    told = [
        [key, sorted(each.labels.items()), sorted(each.addresses), sorted(each.secrets.items())]
        for key, each in sorted(services.items())
    ]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()[:32]
