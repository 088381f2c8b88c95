"""
Tiny targets, their sidecars, and a byfahrer of our own on the engine: all of it marked, and removed by ID at the end.

A target is a Python of the sslterm image that answers everything with `ok`. It is served when HTTPS through its sidecar
brings that `ok`; how long it took counts from wherever the caller began.
"""

from __future__ import annotations

import copy
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import docker
from docker.errors import APIError, DockerException, NotFound

from bench.process import BenchError

IMAGE = "sslterm"
AT_ONCE = 8
"""Sidecars that are made at a time, by byfahrer and by hand."""
LONGEST = 900.0
"""Seconds until the last one is served, or the bench fails."""
LOOK_EVERY = 0.1
"""Seconds between looks whether one that has started answers: who looks takes its share of the cores, too."""
ANSWER = b"ok from behind"
PROGRAM = f"""
import socket
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    client, _ = listener.accept()
    with client:
        client.recv(65536)
        client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: {len(ANSWER)}\\r\\n\\r\\n{ANSWER.decode()}")
"""
ENV = ("BYFAHRER_", "SSLTERM_", "GOSSLTERM_", "LOG_LEVEL")


class Fleet:
    """Everything of one run on the engine."""

    def __init__(self) -> None:
        try:
            self.api = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=120)
            self.api.inspect_image(IMAGE)
        except NotFound:
            raise BenchError(f"the image {IMAGE} is not on the engine: run `make images`") from None
        except DockerException as error:
            raise BenchError(f"no Docker Engine answers ({error})") from None
        self.mark = f"b{uuid.uuid4().hex[:10]}"
        self.scope = f"byfahrer-bench={self.mark}"
        self._folder = tempfile.TemporaryDirectory(prefix="byf-", dir="/tmp")
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o755)  # sidecars look for their socket in it
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever is impatient would leave hundreds of containers behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.clear()
        self.api.close()
        self._folder.cleanup()

    def targets(self, many: int) -> list[str]:
        """IDs of so many targets, made and not started."""
        first, self._made = self._made, self._made + many
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._target, range(first, first + many)))

    def _target(self, number: int) -> str:
        made = self.api.create_container(
            IMAGE, name=f"{self.mark}-{number}", entrypoint=["/usr/bin/python3", "-I", "-S", "-c", PROGRAM], command=[],
            labels={"byfahrer.proxy-image": IMAGE, "byfahrer-bench": self.mark}, healthcheck={"test": ["NONE"]},
            host_config=self.api.create_host_config(network_mode="bridge", mem_limit="64m"),
        )  # fmt: skip
        return str(made["Id"])

    def start(
        self, targets: Iterable[str], at_once: int = AT_ONCE, then: Callable[[str], object] | None = None
    ) -> None:
        """Start them, so many at a time, and do something with each that has."""

        def one(target: str) -> None:
            self.api.start(target)
            if then:
                then(target)

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(one, targets))

    def sidecars(self, target: str) -> list[dict[str, Any]]:
        """What inspect says of a target's sidecars."""
        found = self.api.containers(all=True, filters={"label": [f"byfahrer.target={target}"]})
        return [self.api.inspect_container(each["Id"]) for each in found]

    def served(self, target: str) -> bool:
        """Whether a target is served now."""
        return answers(self.api.inspect_container(target)["NetworkSettings"]["IPAddress"])

    def by_hand(self, like: Mapping[str, Any], target: str) -> None:
        """A sidecar for this target like another one: created and started."""
        config = {key: like["Config"][key] for key in ("Image", "Env", "User", "Healthcheck", "StopTimeout")}
        config["Labels"] = like["Config"]["Labels"] | {"byfahrer.target": target}
        config["HostConfig"] = copy.deepcopy(like["HostConfig"]) | {"NetworkMode": f"container:{target}"}
        made = self.api.create_container_from_config(config, name=f"{self.mark}-{target[:12]}-proxy")
        self.api.start(made["Id"])

    def containers(self) -> list[str]:
        """IDs of all that is ours."""
        found = self.api.containers(all=True, filters={"label": [self.scope]})
        return [each["Id"] for each in found]

    def remove(self, containers: Iterable[str]) -> None:
        def one(container: str) -> None:
            with suppress(NotFound):
                self.api.remove_container(container, force=True, v=True)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, containers))

    def clear(self) -> None:
        """Remove all that is ours, and what comes of it meanwhile."""
        for _ in range(20):
            left = self.containers()
            if not left:
                return
            with suppress(APIError):
                self.remove(left)
        raise BenchError(f"left behind on the engine: containers with the label {self.scope}")


class Served:
    """When each target was served first: begun before anything starts, so that no start is missed."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._began = time.monotonic()
        self._times: dict[str, float] = {}
        self._pool = ThreadPoolExecutor(64)
        self._stopped = threading.Event()
        self._starts = fleet.api.events(
            decode=True, filters={"type": "container", "event": "start", "label": [fleet.scope, "byfahrer.target"]}
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._starts.close()
        self._thread.join()
        self._pool.shutdown()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def all(self, targets: Iterable[str]) -> list[float]:
        """Wait until all of these are served: after how many seconds each was, the last one last."""
        wanted = set(targets)
        while left := wanted - self._times.keys():
            if self.now() > LONGEST:
                raise BenchError(f"{len(left)} of {len(wanted)} targets are not served after {LONGEST:.0f} s")
            time.sleep(0.01)
        return sorted(self._times[each] for each in wanted)

    def _listen(self) -> None:
        for event in self._starts:
            with suppress(RuntimeError):  # the pool is closed: it is over
                self._pool.submit(self._ask, event["Actor"]["Attributes"]["byfahrer.target"])

    def _ask(self, target: str) -> None:
        address = self._fleet.api.inspect_container(target)["NetworkSettings"]["IPAddress"]
        while not self._stopped.is_set() and target not in self._times:
            if answers(address):
                self._times[target] = self.now()
            else:
                time.sleep(LOOK_EVERY)


def _context() -> ssl.SSLContext:
    """For any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_CONTEXT = _context()


def answers(address: str) -> bool:
    """Whether HTTPS there brings what a target says."""
    try:
        with socket.create_connection((address, 8081), 2) as plain, _CONTEXT.wrap_socket(plain) as encrypted:
            encrypted.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            told = b""
            while data := encrypted.recv(4096):
                told += data
    except OSError:
        return False
    return told.startswith((b"HTTP/1.0 200 ", b"HTTP/1.1 200 ")) and told.endswith(ANSWER)


class Daemon:
    """`byfahrer run` for this fleet alone."""

    def __init__(self, fleet: Fleet, *options: str, engine: Path | None = None) -> None:
        self.began = time.monotonic()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ENV)}
        folders = ("--state-dir", fleet.folder / "state", "--run-dir", fleet.folder / "run")
        self._process = subprocess.Popen(
            (sys.executable, "-m", "byfahrer", "run", "--only-label", fleet.scope, *folders, *options),
            env=clean | ({"DOCKER_HOST": f"unix://{engine}"} if engine else {}), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()

    def ready(self) -> float:
        """Wait until it has looked at everything; after how many seconds."""
        while not any("Connected to" in line for line in list(self._lines)):
            if self._process.poll() is not None or time.monotonic() - self.began > LONGEST:
                raise BenchError(f"byfahrer: {self._lines[-1:]}")
            time.sleep(0.01)
        return time.monotonic() - self.began

    def complaints(self) -> list[str]:
        return [line for line in self._lines if "ERROR" in line]

    def cpu(self) -> float:
        """Seconds of processor time until now, of the process itself and of children that have ended."""
        told = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, told[11:15])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """MB that are resident."""
        told = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(told.partition("VmRSS:")[2].split()[0]) / 1024

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._lines.append(line.rstrip("\n"))
