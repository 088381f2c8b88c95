"""What the rest of the program asks of an engine; the tests' engine in memory implements the same."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from byfahrer.model import Container, File, Service, SidecarSpec, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Who answered."""

    name: str
    version: str
    api_version: str
    role: str
    """In a Swarm: `manager` or `worker`; `none` outside of one."""
    now: str
    """The engine's clock, in the form that `events` takes it."""
    security: tuple[str, ...] = ()
    """What confines containers: `seccomp`, `apparmor`; `userns`, `rootless` where their users are others outside."""
    unlimited: tuple[str, ...] = ()
    """What it cannot limit: `memory`, `pids`."""
    live_restore: bool = False
    """Whether containers run on while the engine restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened to a container or service: a hint where to look, never what to believe."""

    kind: str
    """`container`, `service`, `image` or `network`; for a network, `id` is the container that joins or leaves it."""
    action: str
    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """A container's, as far as they say whom it concerns."""
    signal: str = ""
    """What a container was sent, for `kill`: a number."""


class Gap(enum.Enum):
    """Events came faster than they were taken, and some are lost."""

    GAP = "gap"


class EventStream(Protocol):
    """Live events. The iteration ends when the stream does, for whatever reason: that is always a loss."""

    def __aiter__(self) -> AsyncIterator[Event | Gap]: ...

    def close(self) -> None:
        """End it; from any thread."""


class Directory(Protocol):
    """What this node knows of Swarm services beside its engine, which can read them on a manager only."""

    def learn(self, found: Mapping[str, Service]) -> None:
        """Take all services, as the engine tells them: this node is a manager."""

    def missed(self) -> None:
        """The engine cannot tell them: this node is a worker, or a manager that has lost the others."""

    def services(self) -> Mapping[str, Service]:
        """All that are known, by their IDs."""

    def service(self, service_id: str) -> Service | None:
        """One of them; None if it is not known: it is gone, or may be new."""


class Engine(Protocol):
    """One Docker Engine. Every method may raise UnreachableError and RejectedError."""

    @property
    def where(self) -> str:
        """Its address, for messages."""

    async def connect(self) -> EngineInfo:
        """Agree on the API's version; to be called first, and again after the engine was lost."""

    async def ping(self) -> None:
        """Return when the engine answered, within seconds."""

    def events(self, since: str, more: Sequence[str] = ()) -> AbstractAsyncContextManager[EventStream]:
        """Subscribe; whoever lists after entering this misses nothing. `more`: labels that events carry beside ours."""

    async def containers(self, label: str | None = None) -> list[Summary]:
        """All containers in any state, or those with the label `key` or `key=value`."""

    async def inspect(self, name: str) -> Container:
        """A container by ID or name, or NotFoundError."""

    async def image_id(self, image: str) -> str | None:
        """The ID of the image that has this name now; None if there is none."""

    async def pull(self, image: str) -> None:
        """
        Get an image from its registry, with the credentials of Docker's own configuration.

        PullError, if it cannot be had. Takes its time, and may be cancelled.
        """

    async def create(self, name: str, target_id: str, spec: SidecarSpec, labels: Mapping[str, str]) -> str:
        """
        A sidecar's new ID. NotFoundError: its image is not there. ConflictError: the name is taken.

        That the target is there and runs is found out by `start` only.
        """

    async def start(self, container_id: str) -> None:
        """ConflictError or NotFoundError, if its target does not run or is gone; starting twice is no error."""

    async def restart(self, container_id: str) -> None:
        """At once, without a grace period."""

    async def kill(self, container_id: str, signal: str) -> None:
        """Send it a signal. ConflictError if it does not run."""

    async def stop(self, container_id: str, grace: int) -> None:
        """Ask it to end, and end it after so many seconds."""

    async def remove(self, container_id: str) -> None:
        """In any state; removing what is gone or going is no error."""

    async def rename(self, container_id: str, name: str) -> None: ...

    async def last_words(self, container_id: str) -> str:
        """The last line of its log, or nothing."""

    async def put_files(self, container_id: str, folder: str, files: Sequence[File]) -> None:
        """
        Write files and folders, by paths relative to `folder`, which exists and stays as it is.

        In any state of the container; where its root is read-only, into its writable volumes only.
        """

    async def read_file(self, container_id: str, path: str, most: int) -> File | None:
        """
        A file under its path without symbolic links; None if there is none.

        UnusableError if it is no plain file, or has more than `most` bytes.
        """

    async def services(self) -> Mapping[str, Service]:
        """All Swarm services that this node knows, by their IDs."""

    async def service(self, service_id: str) -> Service | None:
        """A Swarm service, without anything where this node can know none; None if it is gone, or not known yet."""
