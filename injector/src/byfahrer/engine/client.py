"""
The adapter: the docker SDK's blocking calls as typed async methods.

Each call takes a worker thread of our own limiter, so that nothing else in the program can starve it, and the ping has
one to itself: it must come through when all others hang. Calls are abandoned when their task is cancelled, or when they
take too long as a whole: the read timeout of a stream that never ends never comes.

Names and IDs come from labels too, and the SDK puts them into the URL with their slashes: only what is one gets there.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from anyio import CancelScope, CapacityLimiter, current_time, fail_after, from_thread, to_thread
from docker import APIClient
from docker.types import Mount as DockerMount
from requests import PreparedRequest, Response, codes

from byfahrer.engine import archive, convert, pull
from byfahrer.engine.address import EngineAddress, mapped
from byfahrer.engine.endpoints import allowed
from byfahrer.engine.errors import (
    ConflictError,
    EngineError,
    LateError,
    NotFoundError,
    PullError,
    RejectedError,
    UnreachableError,
    UnusableError,
)
from byfahrer.engine.events import ThreadedEvents
from byfahrer.engine.interface import Directory, EngineInfo, EventStream
from byfahrer.engine.services import Services
from byfahrer.model import Container, File, Mount, Service, SidecarSpec, Summary

T = TypeVar("T")

CALL_TIMEOUT = 30
"""Seconds. A start takes 0.1 s on an idle engine, some seconds with fifty at once."""
PING_TIMEOUT = 5
"""Seconds. What does not answer a ping by then hangs."""
CALLS = 16
"""At a time: twice the keys that are worked on at once, since looking takes two."""
STOPS = 64
"""At a time, beside all others: each waits for its container for some seconds."""
KILLS = 8
"""At a time, beside all others: a signal that says that a target is stopping is worth nothing later."""
IMAGES_KNOWN = 256
"""Images whose labels are remembered: an ID's labels never change."""
LONGEST_LABELS = 65536
"""Characters of one image's labels that are worth remembering."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""What the engine takes as a container's name, or part of its ID."""


class LookingClient(APIClient):
    """One that changes nothing on the engine, whoever asks it to."""

    def send(self, request: PreparedRequest, **more: Any) -> Response:  # noqa: ANN401 - as the base class
        if not allowed(request.method or "", urlsplit(request.url or "").path, observe=True):
            raise RejectedError(codes.forbidden, "nothing is changed on this engine by who only observes")
        return super().send(request, **more)


class DockerEngine:
    """A Docker Engine over its socket."""

    def __init__(
        self,
        address: EngineAddress,
        *,
        call_timeout: int = CALL_TIMEOUT,
        look_only: bool = False,
        directory: Directory | None = None,
    ) -> None:
        self._address = address
        self._services = Services(self._call, directory)
        self._kind = LookingClient if look_only else APIClient
        self._call_timeout = call_timeout
        self._client: APIClient | None = None
        self._pinger: APIClient | None = None
        self._calls = CapacityLimiter(CALLS)
        self._stops = CapacityLimiter(STOPS)
        self._kills = CapacityLimiter(KILLS)
        self._pings = CapacityLimiter(1)
        self._connects = CapacityLimiter(2)
        self._pulls = CapacityLimiter(pull.AT_ONCE)
        self._log_driver = ""
        self._image_labels: OrderedDict[str, Mapping[str, str]] = OrderedDict()

    @property
    def where(self) -> str:
        return self._address.host

    async def connect(self) -> EngineInfo:
        try:
            return await self._thread(self._connect, self._connects)
        except EngineError:
            self._services.miss()
            raise

    async def ping(self) -> None:
        def ping() -> None:
            if self._pinger is None:
                raise UnreachableError(f"not connected to the engine at {self.where}")
            self._pinger.ping()

        await self._thread(ping, self._pings)

    @asynccontextmanager
    async def events(self, since: str, more: Sequence[str] = ()) -> AsyncIterator[EventStream]:
        client = await self._thread(partial(self._session, self._version), self._connects)
        try:
            async with ThreadedEvents(client, since, self.where, more=more) as stream:
                yield stream
        finally:
            client.close()

    async def containers(self, label: str | None = None) -> list[Summary]:
        filters = {"label": [label]} if label else {}
        found = await self._call(lambda client: client.containers(all=True, filters=filters))
        return [convert.summary(each) for each in found]

    async def inspect(self, name: str) -> Container:
        if not _NAME.fullmatch(name):
            raise NotFoundError(f"no container can have the name {name[:100]!r}")
        raw = await self._call(lambda client: client.inspect_container(name))
        carried = (raw.get("Config") or {}).get("Labels")
        return convert.container(raw, await self._labels_of(raw.get("Image") or "") if carried else {})

    async def image_id(self, image: str) -> str | None:
        try:
            # types-docker has no types for this one.
            found = await self._call(lambda client: client.inspect_image(image))  # type: ignore[no-untyped-call]
        except NotFoundError:
            return None
        return str(found["Id"])

    async def pull(self, image: str) -> None:
        ended = False

        def run() -> None:
            with mapped(self.where), closing(self._session(self._version)) as client:
                pull.pull(client, image, goes_on)

        def goes_on() -> bool:
            # Of a pull that is cancelled, nobody waits for the next word.
            if not ended:
                from_thread.run_sync(extend)
            return not ended

        def extend() -> None:
            scope.deadline = min(current_time() + pull.STALLED, last)

        async with self._pulls:
            last = current_time() + pull.LONGEST
            try:
                with CancelScope(deadline=current_time() + pull.STALLED) as scope:
                    await to_thread.run_sync(run, limiter=CapacityLimiter(1), abandon_on_cancel=True)
            finally:
                ended = True
        if scope.cancelled_caught and scope.deadline >= last:
            raise PullError(f"it was not complete after {pull.LONGEST / 60:.0f} min")
        if scope.cancelled_caught:
            raise PullError(f"nothing came for {pull.STALLED:.0f} s")

    async def create(self, name: str, target_id: str, spec: SidecarSpec, labels: Mapping[str, str]) -> str:
        def create(client: APIClient) -> str:
            mounts = [_mount(each) for each in spec.mounts]
            confined = convert.host_arguments(target_id, spec, self._log_driver)
            host_config = client.create_host_config(**confined, mounts=mounts)
            made = client.create_container(
                spec.image, name=name, host_config=host_config, **convert.container_arguments(spec, labels)
            )
            return str(made["Id"])

        try:
            return await self._call(create)
        except RejectedError as error:
            # Swarm's secrets do not change under a task: its service has another one by now than it was started with.
            if error.status == codes.bad_request and "/mounts/secrets/" in error.message:
                text = "it was started without the secret that its service has now, until Swarm replaces it"
                raise UnusableError(text) from None
            raise

    async def start(self, container_id: str) -> None:
        await self._call(lambda client: client.start(container_id))

    async def restart(self, container_id: str) -> None:
        await self._call(lambda client: client.restart(container_id, timeout=0))

    async def kill(self, container_id: str, signal: str) -> None:
        await self._call(lambda client: client.kill(container_id, signal), self._kills)

    async def stop(self, container_id: str, grace: int) -> None:
        await self._call(lambda client: client.stop(container_id, timeout=grace), self._stops)

    async def remove(self, container_id: str) -> None:
        # Gone, or "removal … is already in progress".
        with suppress(NotFoundError, ConflictError):
            await self._call(lambda client: client.remove_container(container_id, force=True, v=True))

    async def rename(self, container_id: str, name: str) -> None:
        await self._call(lambda client: client.rename(container_id, name))

    async def last_words(self, container_id: str) -> str:
        try:
            log = await self._call(lambda client: client.logs(container_id, stdout=True, stderr=True, tail=1))
        except RejectedError:
            return ""  # with some log drivers nobody can read what was written
        return convert.words(log)

    async def put_files(self, container_id: str, folder: str, files: Sequence[File]) -> None:
        packed = archive.pack(files)
        await self._call(lambda client: client.put_archive(container_id, folder, packed))

    async def read_file(self, container_id: str, path: str, most: int) -> File | None:
        def read(client: APIClient, path: str, links: int) -> File:
            stream, stat = client.get_archive(container_id, path)
            with closing(stream):
                target = archive.link_target(stat)
                if target is None:
                    return archive.unpack(path, stream, most)
            # The engine followed the whole chain: another link here was put there just now.
            if not links:
                raise UnusableError(f"{path} is no plain file")
            return read(client, target, links - 1)

        try:
            return await self._call(lambda client: read(client, path, 1))
        except NotFoundError:
            return None

    async def services(self) -> Mapping[str, Service]:
        return await self._services.every()

    async def service(self, service_id: str) -> Service | None:
        return await self._services.one(service_id)

    async def _labels_of(self, image_id: str) -> Mapping[str, str] | None:
        """Labels of an image; None if it is gone."""
        if not image_id:
            return None
        if image_id in self._image_labels:
            self._image_labels.move_to_end(image_id)
            return self._image_labels[image_id]

        def read(client: APIClient) -> Mapping[str, str]:
            image: dict[str, Any] = client.inspect_image(image_id)  # type: ignore[no-untyped-call]
            return (image.get("Config") or {}).get("Labels") or {}

        try:
            found = await self._call(read)
        except NotFoundError:
            return None
        if sum(len(label) + len(value) for label, value in found.items()) <= LONGEST_LABELS:
            self._image_labels[image_id] = found
            while len(self._image_labels) > IMAGES_KNOWN:
                self._image_labels.popitem(last=False)
        return found

    def _connect(self) -> EngineInfo:
        client = self._session(self._address.api_version)
        said = client.info()
        info = convert.engine_info(said, client.api_version)
        self._log_driver = said.get("LoggingDriver") or ""
        self._client = client
        self._pinger = self._session(client.api_version, PING_TIMEOUT)
        return info

    def _session(self, version: str, timeout: int | None = None) -> APIClient:
        pull.check_configuration()
        client = self._kind(
            base_url=self._address.host,
            version=version,
            timeout=timeout or self._call_timeout,
            tls=self._address.tls or False,
            max_pool_size=CALLS,
        )
        # Proxies and ~/.netrc are looked up for every request otherwise; a socket has neither.
        # No engine redirects us, except where a path was not what it looked like.
        client.max_redirects = 0
        client.trust_env = not self._address.host.startswith("unix:")
        return client

    @property
    def _version(self) -> str:
        return self._client.api_version if self._client else self._address.api_version

    async def _call(
        self, function: Callable[[APIClient], T], limiter: CapacityLimiter | None = None, patience: float | None = None
    ) -> T:
        """`patience`: seconds for it, if not those for all calls."""
        client = self._client
        if client is None:
            raise UnreachableError(f"not connected to the engine at {self.where}")
        return await self._thread(partial(function, client), limiter or self._calls, patience)

    async def _thread(self, function: Callable[[], T], limiter: CapacityLimiter, patience: float | None = None) -> T:
        def run() -> T:
            with mapped(self.where):
                return function()

        # Waiting for one's turn does not count: it says nothing about the engine.
        async with limiter:
            try:
                with fail_after(patience or 2 * self._call_timeout):
                    return await to_thread.run_sync(run, limiter=CapacityLimiter(1), abandon_on_cancel=True)
            except TimeoutError:
                raise LateError(f"no answer in time from the engine at {self.where}") from None


def _mount(mount: Mount) -> DockerMount:
    # no_copy: a new volume must not be filled from the sidecar's image.
    kind = cast("Any", mount.kind)
    return DockerMount(
        mount.destination,
        mount.source or None,
        type=kind,
        read_only=not mount.writable,
        no_copy=kind == "volume",
    )
