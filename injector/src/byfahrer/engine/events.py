"""
The engine's event stream, read by a thread that does nothing but put each event into a deque.

The engine waits up to 100 ms for every event a reader does not take, for all of its clients, and then drops it: so the
thread never waits for the loop. It wakes the loop once for any number of events. The SDK ends a broken stream silently
and reads a hung one for ever: an end is a loss, and `close` from outside ends what hangs.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, cast

import anyio
from anyio import to_thread
from anyio.from_thread import BlockingPortal
from docker import APIClient
from docker.types import CancellableStream
from loguru import logger

from byfahrer.engine import convert
from byfahrer.engine.address import mapped
from byfahrer.engine.errors import UnreachableError
from byfahrer.engine.interface import Event, Gap

FILTERS = {
    "type": ["container", "service", "network", "image"],
    "event": [
        # Of containers. Not exec_*: each health probe on the engine makes three. health_status stands for all that
        # begin with it. Not oom: alone it changes nothing, and what it ends dies.
        *("start", "kill", "die", "destroy", "pause", "unpause", "rename", "health_status"),
        *("update",),  # of services; a container's is harmless
        *("connect", "disconnect"),  # of networks
        *("tag", "untag", "pull", "load", "import", "delete"),  # of images
    ],
}
BACKLOG = 10_000
"""Events that may wait for the loop; some MB. More, and a full look at everything is cheaper anyway."""

SUBSCRIBE_TIMEOUT = 10.0
"""Seconds for the engine to accept a subscription; the SDK itself would wait for ever."""


class ThreadedEvents:
    """One subscription: entered when the engine has accepted it."""

    def __init__(
        self, client: APIClient, since: str, where: str, *, more: Sequence[str] = (), backlog: int = BACKLOG
    ) -> None:
        self._client = client
        self._since = since
        self._where = where
        self._more = more
        self._backlog = backlog
        self._waiting: deque[Event] = deque()
        self._gap = False
        self._ended = False
        self._woken = anyio.Event()
        self._called = False
        """Whether the loop has been told and has not yet looked."""
        self._portal = BlockingPortal()
        self._source: CancellableStream[dict[str, Any]] | None = None

    async def __aenter__(self) -> Self:
        await self._portal.__aenter__()
        try:
            with anyio.fail_after(SUBSCRIBE_TIMEOUT):
                self._source = await to_thread.run_sync(self._subscribe, abandon_on_cancel=True)
        except TimeoutError:
            await self._portal.__aexit__(None, None, None)
            raise UnreachableError(f"no answer in time from the engine at {self._where}") from None
        except BaseException:
            await self._portal.__aexit__(None, None, None)
            raise
        threading.Thread(target=self._read, args=(self._source,), name="engine events", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        await self._portal.stop(cancel_remaining=True)
        await self._portal.__aexit__(kind, error, trace)

    def close(self) -> None:
        if self._source is not None:
            # It digs for the socket to shut it down, and may find it closed, or gone.
            with contextlib.suppress(Exception):
                self._source.close()

    async def __aiter__(self) -> AsyncIterator[Event | Gap]:
        while True:
            self._woken = anyio.Event()
            while self._waiting:
                yield self._waiting.popleft()
            if self._gap:
                self._gap = False
                yield Gap.GAP
            if self._ended and not self._waiting:
                return
            await self._woken.wait()

    def _subscribe(self) -> CancellableStream[dict[str, Any]]:
        # The API takes nanoseconds as text; the SDK hands on what it does not know.
        since = cast("int", self._since)
        with mapped(self._where):
            source = self._client.events(since=since, filters=FILTERS, decode=True)
            # The SDK takes a refusal for a stream of one event, and its end for that of the stream.
            cast("Any", self._client)._raise_for_status(cast("Any", source)._response)  # noqa: SLF001
            return source

    def _read(self, source: CancellableStream[dict[str, Any]]) -> None:
        try:
            for raw in source:
                event = convert.event(raw, self._more)
                if event is None:
                    continue
                if len(self._waiting) >= self._backlog:
                    self._gap = True
                else:
                    self._waiting.append(event)
                self._wake()
        except Exception as error:  # noqa: BLE001 - whatever ends a stream means the same: look at everything again
            logger.debug("The event stream broke: {!r}", error)
        finally:
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        if self._called:
            return
        self._called = True
        # The portal is gone when the program is: then nobody waits.
        with contextlib.suppress(RuntimeError):
            self._portal.start_task_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._called = False
        self._woken.set()
