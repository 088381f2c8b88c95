"""
A Docker Engine in a container, to be restarted, killed, frozen and filled up as the machine's own must never be.

It is the host's `dockerd`, which a loop starts again whenever it ends, with its data in a tmpfs of limited size. What
it runs is found through the host's /proc, so that nothing has to be installed in there.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import docker
import requests
from docker.errors import APIError, NotFound

from lab.engine import IMAGES, Lab
from lab.waiting import wait_until

SIZE = 700
"""MiB for images and containers: the images take 75 of them."""
DATA = "/var/lib/docker"
_LOOP = f"""
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
while [ ! -e $FOLDER/stop ]; do
  rm -f /var/run/docker.pid
  [ -e $FOLDER/down ] || dockerd -H unix://$FOLDER/engine.sock --storage-driver overlay2 --data-root {DATA} \
    $(cat $FOLDER/options) >>$FOLDER/log 2>&1
  sleep 0.1
done
"""
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def connect_in(namespace, address, timeout=5.0):
    """A TCP connection made in another network namespace: a socket stays where it was made."""
    made: list[socket.socket | OSError] = []

    def connect():
        try:
            with Path(namespace).open("rb") as handle:
                if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_connection(address, timeout))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=connect)  # which alone changes its namespace
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


class NestedEngine:
    """One engine in a container of the machine's own."""

    def __init__(self, outer, archive, *, network="bridge", address=None, options="", lasting=False):
        """
        `network`, `address`: where the machine's own engine puts it. `options`: of its daemon, from the start.

        `lasting`: what is on its disk is there again after the container was killed.
        """
        self._outer = outer
        self._network = network
        self._address = address
        self._lasting = lasting
        self._standing = options
        self.folder = Path(tempfile.mkdtemp(prefix="byf-engine-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._options = self.folder / "options"
        self._options.write_text(options)
        self.url = f"unix://{self.folder}/engine.sock"
        self.id = ""
        try:
            self._start()
            self.api = docker.APIClient(base_url=self.url, version="1.41", timeout=60)
            self.is_up()
            with archive.open("rb") as packed:
                list(self.api.load_image(packed))  # it is loaded when its progress has been read
        except BaseException:
            self.remove()
            raise

    def _start(self):
        # Privileged would ask for CAP_SYS_RESOURCE, which not every machine has to give.
        host = self._outer.create_host_config(
            cap_add=["ALL"], cap_drop=["SYS_RESOURCE"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            tmpfs={"/run": "rw,exec"} if self._lasting else {DATA: f"rw,exec,dev,suid,size={SIZE}m"},
            # The folder has the same path on both sides: what an injector mounts into sidecars lies in it.
            network_mode=self._network,
            binds=["/sys/fs/cgroup:/sys/fs/cgroup", "/usr:/usr:ro", "/etc/alternatives:/etc/alternatives:ro",
                   f"{self.folder}:{self.folder}"],
        )  # fmt: skip
        host |= {"MaskedPaths": [], "ReadonlyPaths": []}  # what the command line calls systempaths=unconfined
        place = None
        if self._address:
            place = {self._network: self._outer.create_endpoint_config(ipv4_address=self._address)}
        self.id = self._outer.create_container(
            "debian:trixie-slim", ["sh", "-c", _LOOP], name=self.folder.name, hostname=self.folder.name,
            host_config=host, environment={"FOLDER": str(self.folder)}, labels={"byfahrer-test": "engine"},
            volumes=[DATA] if self._lasting else None,
            networking_config=place and self._outer.create_networking_config(place),
        )["Id"]  # fmt: skip
        self._outer.start(self.id)
        self.pid = self._outer.inspect_container(self.id)["State"]["Pid"]

    @property
    def env(self):
        return {"DOCKER_HOST": self.url}

    @property
    def namespace(self):
        """Its own network's, from which the addresses of its containers can be reached."""
        return f"/proc/{self.pid}/ns/net"

    def process(self, pid):
        """The folder of /proc of one of its processes, by the number that it knows it by."""
        return Path(f"/proc/{self.pid}/root/proc/{pid}")

    def answers(self):
        """Asked without the SDK, which forgets to close what it cannot connect."""
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(5)
            client.connect(self.url.removeprefix("unix://"))
            client.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return client.recv(64).split()[1:2] == [b"200"]
        return False

    def is_up(self):
        wait_until(self.answers, 60, interval=0.02)

    def is_down(self):
        wait_until(lambda: not self.answers(), 60, interval=0.02)

    def run(self, script):
        """A shell command in there, as root: what it prints."""
        made = self._outer.exec_create(self.id, ["sh", "-c", script])["Id"]
        printed = self._outer.exec_start(made).decode(errors="replace")
        assert self._outer.exec_inspect(made)["ExitCode"] == 0, printed
        return printed

    def _signal(self, name):
        self.run(f"kill -{name} $(cat /var/run/docker.pid)")

    def restart(self, name="TERM", meanwhile=None):
        """End the daemon by a signal; it is back, with its options, when this returns. What is to be done between."""
        down = self.folder / "down"
        down.touch()
        pid = int(self.run("cat /var/run/docker.pid"))
        self._signal(name)
        wait_until(lambda: not self.process(pid).exists(), 60)
        if meanwhile:
            meanwhile()
        down.unlink()
        self.is_up()

    @contextmanager
    def away(self):
        """Without a daemon for as long as it takes."""
        (self.folder / "down").touch()
        self._signal("TERM")
        self.is_down()
        try:
            yield
        finally:
            (self.folder / "down").unlink()
        self.is_up()

    @contextmanager
    def frozen(self):
        """With a daemon that accepts connections and answers nothing."""
        self._signal("STOP")
        try:
            yield
        finally:
            self._signal("CONT")
        self.is_up()

    @contextmanager
    def full(self):
        """With no byte left for it on its disk."""
        filler = f"{DATA}/filler"
        self.run(f"dd if=/dev/zero of={filler} bs=1M 2>/dev/null; dd if=/dev/zero of={filler}.2 bs=1 2>/dev/null; true")
        try:
            yield
        finally:
            self.run(f"rm -f {filler} {filler}.2")

    @contextmanager
    def option(self, text):
        """With an option of the daemon's; it is restarted before and after."""
        self._options.write_text(f"{self._standing} {text}")
        self.restart()
        try:
            yield
        finally:
            self._options.write_text(self._standing)
            self.restart()

    def kill(self, pid):
        """Kill -9 one of its containers' processes behind its back."""
        self.run(f"kill -KILL {pid}")

    def _is_removed(self):
        """Whether it is gone; if not, once more. A busy machine may need a second try."""
        with contextlib.suppress(APIError, requests.RequestException):
            self._outer.remove_container(self.id, force=True, v=True)
        try:
            self._outer.inspect_container(self.id)
        except NotFound:
            return True
        return False

    def remove(self):
        if self.id:
            wait_until(self._is_removed, 120)
        if hasattr(self, "api"):
            self.api.close()
        shutil.rmtree(self.folder)


class NestedLab(Lab):
    """One test's part of an engine in a container."""

    def __init__(self, engine):
        super().__init__(engine.api)
        self.engine = engine

    @property
    def env(self):
        """For an injector that looks after it: what it shares with sidecars must be there for that engine, too."""
        return self.engine.env | {"BYFAHRER_RUN_DIR": str(self.engine.folder / self.mark)}

    def process(self, pid):
        return self.engine.process(pid)

    def connect(self, address, port):
        return connect_in(self.engine.namespace, (address, port))

    def crash(self, container_id):
        self.engine.kill(self.api.inspect_container(container_id)["State"]["Pid"])


def saved_images(folder):
    """An archive of the images that targets and sidecars are made of."""
    path = folder / "images.tar"
    subprocess.run(("docker", "save", "--output", path, *IMAGES), check=True, timeout=60)
    return path
