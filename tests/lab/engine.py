"""
The real Docker Engine for tests: containers that carry the test's mark and are removed by id at its end.

Nothing is ever skipped for want of an engine: `reach` fails with what to do.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import signal
import socket
import ssl
import tarfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker
from docker.errors import APIError, DockerException, NotFound

from lab.waiting import wait_until

IMAGES = ("sslterm", "httpcheck")


class NoEngineError(Exception):
    """There is no engine to test against; `str()` says what to do."""


def reach():
    """A client of the engine, with the images that tests need on it."""
    try:
        api = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=60)
    except DockerException as error:
        raise NoEngineError(f"no Docker Engine answers, and these tests need one: run `make test` ({error})") from error
    for image in IMAGES:
        try:
            api.inspect_image(image)
        except NotFound:
            api.close()
            raise NoEngineError(f"the image {image} is not on the engine: run `make images`") from None
    return api


def fetch(address, path="/pi/20", port=8081, connect=None):
    """Status and body over HTTPS, whatever the certificate; None if nobody serves it."""
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(address, port, timeout=5, context=context)
    if connect:
        connection._create_connection = lambda where, *_: connect(*where)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except OSError:
        return None
    finally:
        connection.close()


@dataclass
class Lab:
    """One test's part of the engine."""

    api: docker.APIClient
    mark: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    """Names start with it, and it is the value of the label `byfahrer-test`."""
    strangers: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    @property
    def scope(self):
        """For `--only-label`: several tests, or a demo, may run on one engine."""
        return f"byfahrer-test={self.mark}"

    @property
    def env(self):
        """What an injector that looks after this engine has to be told besides."""
        return {}

    def process(self, pid):
        """The folder of /proc of a container's process, by the number that the engine gives."""
        return Path(f"/proc/{pid}")

    def connect(self, address, port):
        """A TCP connection to a container's address."""
        return socket.create_connection((address, port), 5)

    def crash(self, container_id):
        """Kill its first process, behind the engine's back: through the engine, it would cancel a restart policy."""
        os.kill(self.api.inspect_container(container_id)["State"]["Pid"], signal.SIGKILL)

    def stop_process(self, container_id):
        """Have its first process hang."""
        os.kill(self.api.inspect_container(container_id)["State"]["Pid"], signal.SIGSTOP)

    def fetch(self, target_id, path="/pi/20"):
        """What a client of a target gets, through its sidecar."""
        return self.fetch_at(self.address(target_id), path)

    def fetch_at(self, address, path="/pi/20"):
        """The same where the engine cannot be asked for the address."""
        return fetch(address, path, connect=self.connect)

    sidecar_image = "sslterm"
    """What targets ask for, where a test does not say."""

    def run(self, name="www", image="httpcheck", *, labels=None, asks=True, start=True, host=None, **options):
        """A container of this test; by default one that asks for a sidecar."""
        marked = {
            "byfahrer-test": self.mark,
            **({"byfahrer.proxy-image": self.sidecar_image} if asks else {}),
            **(labels or {}),
        }
        made = self.api.create_container(
            image, name=f"{self.mark}-{name}", labels=marked,
            host_config=self.api.create_host_config(**(host or {})), **options,
        )  # fmt: skip
        if start:
            self.api.start(made["Id"])
        return made["Id"]

    def network(self, name="net"):
        """A network of this test: its ID."""
        self.networks.append(self.api.create_network(f"{self.mark}-{name}", driver="bridge")["Id"])
        return self.networks[-1]

    def volume(self, name):
        """A volume of this test, by its whole name."""
        self.volumes.append(self.api.create_volume(f"{self.mark}-{name}")["Name"])
        return self.volumes[-1]

    def image(self, *labels, of="httpcheck", command=None):
        """An image with these labels, `key=value` each."""
        made = self.api.create_container(of, command, labels={"byfahrer-test": self.mark})["Id"]
        self.images.append(self.api.commit(made, changes=[f"LABEL {each}" for each in labels])["Id"])
        return self.images[-1]

    def image_id(self, name):
        """What the name means now; None if nothing."""
        try:
            return self.api.inspect_image(name)["Id"]
        except NotFound:
            return None

    def execute(self, container_id, *command):
        """What a command in a container prints; it must succeed."""
        code, printed = self.attempt(container_id, *command)
        assert code == 0, printed
        return printed

    def attempt(self, container_id, *command):
        """The exit code of a command in a container, and what it prints."""
        made = self.api.exec_create(container_id, list(command))["Id"]
        printed = self.api.exec_start(made).decode(errors="replace")
        return self.api.exec_inspect(made)["ExitCode"], printed

    def read(self, container_id, path):
        """A file in a container, whoever may read it there."""
        chunks, _ = self.api.get_archive(container_id, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            return archive.extractfile(archive.next()).read()

    def write(self, container_id, path, content):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        self.api.put_archive(container_id, "/", packed.getvalue())

    def look(self, container_id):
        """What inspect says; None if it is gone."""
        try:
            return self.api.inspect_container(container_id)
        except NotFound:
            return None

    def status(self, container_id):
        found = self.look(container_id)
        return found["State"]["Status"] if found else "gone"

    def address(self, container_id):
        networks = self.api.inspect_container(container_id)["NetworkSettings"]["Networks"]
        return next(each["IPAddress"] for each in networks.values() if each["IPAddress"])

    def sidecars(self, target_id=None):
        """Inspected sidecars of a target, or of all of this test."""
        wanted = f"byfahrer.target={target_id}" if target_id else "byfahrer.target"
        listed = self.api.containers(all=True, filters={"label": [wanted]})
        mine = [each for each in listed if target_id or each["Labels"].get("byfahrer-test") == self.mark]
        return [found for each in mine if (found := self.look(each["Id"]))]

    def namespace(self, container_id):
        """Of a running container's network. The numbers are used again: compare running ones only."""
        return self.namespace_of(self.api.inspect_container(container_id)["State"]["Pid"])

    def namespace_of(self, pid):
        """As `namespace`, of a process by the number that the engine gives."""
        try:
            return str((self.process(pid) / "ns/net").readlink()) if pid else None
        except OSError:  # it ended meanwhile
            return None

    def served(self, target_id):
        """Whether exactly one sidecar runs, in the target's present namespace, and answers HTTPS through it."""
        found = self.sidecars(target_id)
        if len(found) != 1 or found[0]["State"]["Status"] != "running":
            return False
        try:
            together = self.namespace(found[0]["Id"]) == self.namespace(target_id)
            answer = self.fetch(target_id) if together else None
        except (NotFound, StopIteration):
            return False
        return answer is not None and answer[0] == http.HTTPStatus.OK

    def becomes_served(self, target_id, seconds=60.0):
        wait_until(lambda: self.served(target_id), seconds)

    def is_left_alone(self, target_id=None, seconds=30.0):
        """Wait until no sidecar is left, of a target or of all."""
        wait_until(lambda: not self.sidecars(target_id), seconds)

    def remove(self, container_id):
        with contextlib.suppress(NotFound):
            self.api.remove_container(container_id, force=True, v=True)

    def _unnamed_volumes(self, container_id):
        """Those that were made with a container, which have no name of anybody's choice."""
        mounts = (self.look(container_id) or {}).get("Mounts", [])
        return {each["Name"] for each in mounts if each["Type"] == "volume" and len(each["Name"]) == 64}

    def clean(self):
        """Remove what carries the mark, by id, until nothing new comes; and volumes that the engine made for it."""
        unnamed = set()
        for _ in range(100):
            mine = self.api.containers(all=True, filters={"label": [f"byfahrer-test={self.mark}"]})
            named = self.api.containers(all=True, filters={"name": [f"^/{self.mark}-"]})
            left = {each["Id"] for each in [*mine, *named]} | {i for i in self.strangers if self.look(i)}
            if not left:
                # Each once: a test may clean up in the midst.
                while self.networks:
                    self.api.remove_network(self.networks.pop())
                while self.images:
                    self.api.remove_image(self.images.pop())
                while self.volumes:
                    self.api.remove_volume(self.volumes.pop())
                # One that a container made and another has by its name stays behind when they are removed.
                for volume in unnamed:
                    with contextlib.suppress(APIError):
                        self.api.remove_volume(volume)
                return
            for container_id in left:
                unnamed |= self._unnamed_volumes(container_id)
                with contextlib.suppress(APIError):
                    self.remove(container_id)
            time.sleep(0.05)
        raise AssertionError(f"left behind: {left}")


def remove_unnamed_volumes(api, before):
    """Those that the engine made for containers that are gone, except those of `before`; their names are 64 digits."""
    for each in api.volumes(filters={"dangling": True})["Volumes"] or ():
        if each["Name"] not in before and len(each["Name"]) == 64:
            with contextlib.suppress(APIError):
                api.remove_volume(each["Name"])


@contextmanager
def swarm(api=None):
    """The engine as the manager of a Swarm of one; left again only if it was in none before."""
    client = api or docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=60)
    state = client.info()["Swarm"]["LocalNodeState"]
    networks = {each["Name"] for each in client.networks()}
    volumes = {each["Name"] for each in client.volumes()["Volumes"] or ()}
    if state == "inactive":
        client.init_swarm(advertise_addr="127.0.0.1", listen_addr="127.0.0.1:2377")
    try:
        yield client
    finally:
        if state == "inactive":
            client.leave_swarm(force=True)
            for each in client.networks(names=["docker_gwbridge"]):
                if each["Name"] not in networks:
                    with contextlib.suppress(APIError):
                        client.remove_network(each["Id"])
        remove_unnamed_volumes(client, volumes)  # Swarm removes its tasks, but not those
        if api is None:
            client.close()
