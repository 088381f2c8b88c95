"""
An engine in memory with the real adapter's interface: what tests of the injector do to containers, and what it sees.

It behaves as the real one was measured: a sidecar survives its target in a namespace that is gone, a failed start
leaves a container behind, and events may be lost. Time is a counter, so that nothing depends on a clock.
"""

from __future__ import annotations

import itertools
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio

from byfahrer.engine.errors import ConflictError, EngineError, NotFoundError, PullError, UnreachableError, UnusableError
from byfahrer.engine.interface import EngineInfo, Event
from byfahrer.model import Container, File, Service, Status, Summary


@dataclass
class Stream:
    """One subscriber's events."""

    waiting: list[Event] = field(default_factory=list)
    ended: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)

    def close(self):
        self.ended = True
        self.changed.set()

    async def __aiter__(self):
        while True:
            self.changed = anyio.Event()
            while self.waiting:
                yield self.waiting.pop(0)
            if self.ended:
                return
            await self.changed.wait()


class MemoryEngine:
    """Containers as they are, and everything that can happen to them."""

    where = "memory"

    def __init__(self, images=("sslterm",)):
        self.all: dict[str, Container] = {}
        self.namespaces: dict[str, tuple[str, int]] = {}
        """Of each sidecar: whose namespace it sits in, and since which start of that container."""
        self.images = {image: f"sha256:{image}" for image in images}
        """Their IDs by name."""
        self.image_labels = {"sslterm": {"sslterm.hand-over": "SIGUSR2"}}
        """What they give to the containers that are made from them, by name."""
        self.leaving: set[tuple[str, int]] = set()
        """The starts of those that leave as soon as another one listens at the same port."""
        self.deaf_ones: set[str] = set()
        """Those that run and do not listen."""
        self.lasts = False
        """Whether those that are told to end take their time, instead of ending at once."""
        self.registry: dict[str, str] = {}
        self.killed: list[tuple[str, str]] = []
        """Containers and the signals that they were sent."""
        self.annotations: dict[str, dict[str, str]] = {}
        """Labels of Swarm services, by their IDs."""
        self.virtual: dict[str, tuple[str, ...]] = {}
        """Their virtual addresses, where they have some."""
        self.deaf = False
        """Whether events are lost."""
        self.away = False
        self.calls: Counter[str] = Counter()
        self.broken: dict[str, list[EngineError]] = {}
        """By method: what its next calls raise."""
        self.words = ""
        """The last of every container that says nothing else."""
        self.said: dict[str, str] = {}
        self.listens: set[tuple[str, str]] = set()
        """Targets, and frontends on which they listen themselves."""
        self.files: dict[tuple[str, str], File] = {}
        """By container and path."""
        self.pings_fail = False
        self.streams: list[Stream] = []
        self.clock = None
        """Nanoseconds since 1970, instead of a counter; it may jump, as that of a machine."""
        self.began = None
        """Called with the ID of a container whose process has just started."""
        self.told = None
        """Called with the ID of a container that was sent a signal, and with the signal."""
        self.endpoints: dict[str, tuple[str, ...]] = {}
        """Of each container with networks of its own; new ones with each start."""
        self._ids = itertools.count(1)
        self._time = 0

    # What happens to containers.

    def run(self, name, labels=None, **fields):
        container = Container(
            id=f"{next(self._ids):064x}", name=name, image="app", labels=labels or {}, status=Status.CREATED, **fields
        )
        self.all[container.id] = container
        self.up(container.id)
        return container.id

    def up(self, key):
        if self._has_networks(key):
            self.endpoints[key] = (f"e{next(self._ids)}",)
            self._emit("connect", key, kind="network")
        self._set(key, status=Status.RUNNING, pid=100, started_at=self._now(), health="")
        self._emit("start", key)
        if self.began:
            self.began(key)

    def down(self, key, status=Status.EXITED, code=0):
        self._set(key, status=status, pid=0, finished_at=self._now(), exit_code=code)
        self._emit("die", key)
        if self._has_networks(key):
            self.endpoints[key] = ("",)
            self._emit("disconnect", key, kind="network")

    def bounce(self, key):
        """As docker restart."""
        self.down(key)
        self.up(key)

    def loop(self, key):
        """Between two tries of its restart policy."""
        self.down(key, Status.RESTARTING)

    def pause(self, key):
        self._set(key, status=Status.PAUSED)
        self._emit("pause", key)

    def unpause(self, key):
        self._set(key, status=Status.RUNNING)
        self._emit("unpause", key)

    def flap(self, key):
        """It loses its network and gets it back: the same namespace, other places in it."""
        self._emit("disconnect", key, kind="network")
        self.endpoints[key] = (f"e{next(self._ids)}",)
        self._emit("connect", key, kind="network")

    def call(self, key, name):
        """Give it another name."""
        self._set(key, name=name)
        self._emit("rename", key)

    def sicken(self, key):
        """As a probe of the engine that fails."""
        self._set(key, health="unhealthy")
        self._emit("health_status: unhealthy", key)

    def end_streams(self):
        """As an engine that stops, or a connection that breaks."""
        for stream in self.streams:
            stream.close()

    def delete(self, key):
        if self.all[key].alive:
            self.down(key)
        self._emit("destroy", key)
        del self.all[key]
        self.endpoints.pop(key, None)

    def set_clock_back(self, starts=1000):
        """By as much as so many of the starts before took."""
        self._time -= starts

    def signalled(self, key, signal="15"):
        """As docker kill -s, or the beginning of docker stop: only that it was told."""
        self._emit("kill", key, signal)

    def tell(self, kind, action, key="x"):
        """Of what is no container."""
        self._send(Event(kind=kind, action=action, id=key))

    # What can be asserted.

    def sidecars(self, target_id):
        return [c for c in self.all.values() if c.labels.get("byfahrer.target") == target_id]

    def served(self, target_id):
        """Whether exactly one sidecar runs, in the namespace that the target has now."""
        mine = self.sidecars(target_id)
        here = (target_id, self.all[target_id].started_at)
        return len(mine) == 1 and mine[0].status is Status.RUNNING and self.namespaces[mine[0].id] == here

    # The interface.

    async def connect(self):
        self._called("connect")
        return EngineInfo(name="memory", version="1", api_version="1.41", role="none", now="0")

    async def ping(self):
        self._called("ping")
        if self.pings_fail:
            raise UnreachableError("no answer")

    @asynccontextmanager
    async def events(self, since, more=()):
        self._called("events")
        stream = Stream()
        self.streams.append(stream)
        try:
            yield stream
        finally:
            self.streams.remove(stream)

    async def containers(self, label=None):
        self._called("containers")
        await anyio.lowlevel.checkpoint()
        key, _, value = (label or "").partition("=")
        return [
            Summary(
                id=c.id,
                name=c.name,
                status=c.status,
                labels=c.labels,
                image=c.image if c.image_id in ("", self.images.get(c.image)) else c.image_id,
                unhealthy=c.alive and c.health == "unhealthy",
                endpoints=self.endpoints.get(c.id, ()),
            )
            for c in self.all.values()
            if not key or (key in c.labels and value in ("", c.labels[key]))
        ]

    async def inspect(self, name):
        self._called("inspect")
        await anyio.lowlevel.checkpoint()
        return self._find(name)

    async def image_id(self, image):
        self._called("image_id")
        await anyio.lowlevel.checkpoint()
        return self.images.get(image)

    async def pull(self, image):
        self._called("pull")
        await anyio.lowlevel.checkpoint()
        if image not in self.registry:
            raise PullError(f"pull access denied for {image}")
        self.images[image] = self.registry[image]

    async def create(self, name, target_id, spec, labels):
        self._called("create")
        await anyio.lowlevel.checkpoint()
        if spec.image not in self.images:
            raise NotFoundError(f"No such image: {spec.image}")
        if any(c.name == name for c in self.all.values()):
            raise ConflictError("name in use")
        container = Container(
            id=f"{next(self._ids):064x}", name=name, image=spec.image, status=Status.CREATED,
            labels={**self.image_labels.get(spec.image, {}), **labels},
            network_mode=f"container:{target_id}", mounts=tuple(map(self._mounted, spec.mounts)),
            env=dict(spec.env), user=spec.user, capabilities=spec.capabilities, image_id=self.images[spec.image],
            stop_timeout=spec.stop_timeout, memory=spec.memory, pids=spec.pids, cpus=spec.cpus,
        )  # fmt: skip
        self.all[container.id] = container
        return container.id

    async def start(self, container_id):
        self._called("start")
        await anyio.lowlevel.checkpoint()
        status = self._find(container_id).status
        if status is Status.PAUSED:
            raise ConflictError("cannot start a paused container, try unpause instead")
        if status is Status.REMOVING:
            raise ConflictError("container is marked for removal and cannot be started")
        if status is not Status.RUNNING:
            self._join(container_id)

    async def restart(self, container_id):
        self._called("restart")
        await anyio.lowlevel.checkpoint()
        if self._find(container_id).alive:
            self.down(container_id)
        self._join(container_id)

    async def kill(self, container_id, signal):
        self._called("kill")
        await anyio.lowlevel.checkpoint()
        if self._find(container_id).status is not Status.RUNNING:
            raise ConflictError("it is not running")
        self.killed.append((container_id, signal))
        self._emit("kill", container_id, signal)
        if self.told:
            self.told(container_id, signal)
        if signal == "SIGTERM" and not self.lasts:
            self.down(container_id)
        if signal == self.all[container_id].labels.get("sslterm.hand-over"):
            self.leaving.add((container_id, self.all[container_id].started_at))
            self._leave()

    async def stop(self, container_id, grace):
        self._called("stop")
        await anyio.lowlevel.checkpoint()
        if self._find(container_id).alive:
            self.down(container_id)

    async def remove(self, container_id):
        self._called("remove")
        await anyio.lowlevel.checkpoint()
        if container_id in self.all and self.all[container_id].status is not Status.REMOVING:
            self.delete(container_id)

    async def rename(self, container_id, name):
        self._called("rename")
        self._find(container_id)
        if any(c.name == name for c in self.all.values()):
            raise ConflictError("name in use")
        self.call(container_id, name)

    async def last_words(self, container_id):
        self._called("last_words")
        return self.said.get(container_id, self.words)

    async def put_files(self, container_id, folder, files):
        self._called("put_files")
        await anyio.lowlevel.checkpoint()
        self._find(container_id)
        for each in files:
            self.files[container_id, f"{folder}/{each.path}"] = each

    async def read_file(self, container_id, path, most):
        self._called("read_file")
        found = self.files.get((self._find(container_id).id, path))
        if found is not None and (found.content is None or len(found.content) > most):
            raise UnusableError(path)
        return found

    async def services(self):
        self._called("services")
        return {service_id: self._service(service_id) for service_id in self.annotations}

    async def service(self, service_id):
        self._called("service")
        return self._service(service_id) if service_id in self.annotations else None

    def _service(self, service_id):
        return Service(labels=dict(self.annotations[service_id]), addresses=self.virtual.get(service_id, ()))

    def _mounted(self, mount):
        """As the engine shows it: a new volume has a name."""
        return mount if mount.source else replace(mount, source=f"{next(self._ids):064x}")

    def _find(self, name):
        for container in self.all.values():
            if name in (container.id, container.name):
                return container
        raise NotFoundError(f"No such container: {name}")

    def _join(self, key):
        target_id = self.all[key].network_mode.removeprefix("container:")
        if target_id not in self.all:
            raise NotFoundError(f"No such container: {target_id}")
        if not self.all[target_id].alive:
            raise ConflictError("cannot join network of a non running container")
        here = (target_id, self.all[target_id].started_at)
        others = [c for c in self.all.values() if c.id != key and c.alive and self.namespaces.get(c.id) == here]
        self.namespaces[key] = here
        self.up(key)
        mine = self.all[key]
        port = _frontend(mine)
        held = [
            c for c in others if _frontend(c) == port and not (_shares(c) and _shares(mine) and c.user == mine.user)
        ]
        if held or (target_id, port) in self.listens:
            # As sslterm: it starts well, and exits.
            self.said[key] = f"frontend-addr={port}: already in use in this network namespace"
            self.down(key, code=1)
        self._leave()

    def _leave(self):
        """Who is to leave as soon as another one listens at the same place."""
        for each in [c for c in self.all.values() if (c.id, c.started_at) in self.leaving and c.alive]:
            here = (self.namespaces[each.id], _frontend(each))
            others = [c for c in self.all.values() if c.id != each.id and c.alive and c.id not in self.deaf_ones]
            if here in [(self.namespaces.get(c.id), _frontend(c)) for c in others]:
                self.leaving.discard((each.id, each.started_at))
                if self.told:
                    self.told(each.id, "SIGTERM")
                if not self.lasts:
                    self.down(each.id)

    def _called(self, method):
        self.calls[method] += 1
        if self.away:
            raise UnreachableError("no engine at memory")
        if self.broken.get(method):
            raise self.broken[method].pop(0)

    def _set(self, key, **fields):
        self.all[key] = replace(self.all[key], **fields)

    def _now(self):
        self._time += 1
        # No two moments are the same, whatever the clock.
        return self.clock() + self._time if self.clock else self._time * 1_000_000

    def _has_networks(self, key):
        return not self.all[key].network_mode.startswith(("container:", "host"))

    def _emit(self, action, key, signal="", kind="container"):
        labels = self.all[key].labels if kind == "container" else {}
        self._send(Event(kind=kind, action=action, id=key, labels=labels, signal=signal))

    def _send(self, event):
        if not self.deaf:
            for stream in self.streams:
                self.deliver(stream, event)

    def deliver(self, stream, event):
        """Have a subscriber read an event: at once, once, and in order, which tests may change."""
        stream.waiting.append(event)
        stream.changed.set()


def _frontend(sidecar):
    return sidecar.env.get("SSLTERM_FRONTEND_ADDR", ":8081")


def _shares(sidecar):
    return sidecar.env.get("SSLTERM_HAND_OVER") == "on" and "sslterm.hand-over" in sidecar.labels
