"""
Swarm services, as far as this node can know them: from its engine on a manager, else from the directory, if any.

A manager that waits for a leader to be elected takes 20 seconds and fails then (moby, `swarmRequestTimeout`), and
targets would wait along: so where the directory can answer, it soon does, and not each look has to find out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import Any, Protocol, TypeVar

from anyio import current_time
from docker import APIClient
from requests import codes

from byfahrer.engine import convert
from byfahrer.engine.errors import LateError, NotFoundError, RejectedError, UnreachableError
from byfahrer.engine.interface import Directory
from byfahrer.model import NO_SERVICE, Service

T = TypeVar("T")

PATIENCE = 3
"""Seconds that a Swarm has for an answer where others tell, too."""
_ID = re.compile(r"[a-z0-9]{25}")
_UNAVAILABLE = (406, 503)
"""What a node answers that is no manager, or a manager without a leader; 406 up to engine 1.13."""


class Call(Protocol):
    """`DockerEngine`'s way to ask."""

    def __call__(
        self, function: Callable[[APIClient], T], /, *, patience: float | None = None
    ) -> Coroutine[Any, Any, T]: ...


class _UntoldError(Exception):
    """The Swarm does not say; what the directory has counts."""

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self.directory = directory


class Services:
    """One engine's. Methods raise as those of `Engine`."""

    def __init__(self, call: Call, directory: Directory | None) -> None:
        """`directory`: what is known where the engine cannot tell: on a worker, or a manager that lost the others."""
        self._call = call
        self._directory = directory
        self._leaderless_until = -inf
        """When a single service may be asked for again."""

    async def every(self) -> Mapping[str, Service]:
        """All of them, by their IDs."""
        try:
            # As elsewhere here: types-docker leaves some of the SDK's calls without types.
            found = await self._ask(lambda client: client.services(), insist=True)  # type: ignore[no-untyped-call]
        except _UntoldError as untold:
            self.miss()
            return untold.directory.services()
        except UnreachableError:
            self.miss()
            raise
        except RejectedError as error:
            await self._expect_no_manager(error)
            return {}
        services = {str(each["ID"]): convert.service(each) for each in found}
        if self._directory is not None:
            self._directory.learn(services)
        return services

    async def one(self, service_id: str) -> Service | None:
        """One of them; None if it is gone, or not known yet."""

        def read(client: APIClient) -> Service:
            return convert.service(client.inspect_service(service_id))  # type: ignore[no-untyped-call]

        if not _ID.fullmatch(service_id):
            return NO_SERVICE  # the label that says so is no Swarm's
        try:
            return await self._ask(read)
        except _UntoldError as untold:
            return untold.directory.service(service_id)
        except NotFoundError:
            return None
        except RejectedError as error:
            await self._expect_no_manager(error)
            return NO_SERVICE

    def miss(self) -> None:
        """What others would be told from here is not the newest any more."""
        if self._directory is not None:
            self._directory.missed()

    async def _ask(self, function: Callable[[APIClient], T], *, insist: bool = False) -> T:
        """_UntoldError, where the Swarm does not answer, or not in time, and the directory can."""
        directory = self._directory
        if directory is None:
            return await self._call(function)
        if current_time() < self._leaderless_until and not insist:
            raise _UntoldError(directory)
        try:
            answer = await self._call(function, patience=PATIENCE)
        except LateError:
            self._leaderless_until = current_time() + PATIENCE
            raise _UntoldError(directory) from None
        except RejectedError as error:
            # 500 is what a call ends with that was under way when the leader was lost.
            if error.status in _UNAVAILABLE or error.status >= codes.server_error:
                raise _UntoldError(directory) from None
            raise
        self._leaderless_until = -inf
        return answer

    async def _expect_no_manager(self, error: RejectedError) -> None:
        """Raise `error` unless this node just cannot know: what a manager that lost the others cannot read is there."""
        if error.status not in _UNAVAILABLE:
            raise error
        info = await self._call(lambda client: client.info())
        if convert.engine_info(info, "").role == "manager":
            raise error
