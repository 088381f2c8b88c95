"""What all proxies share: the certificate, the backend, the load, and a temporary folder that goes at the end."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.process import LOAD_CPU, PROXY_CPU, BenchError, Process, on_cpus
from bench.proxies import BUILT, CIPHER, ROOT, Place, Proxy, nginx, nginx_paths

BODY = "Hello from behind the proxy.\\n"
OPENSSL = f"""openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = pinned
[pinned]
MinProtocol = TLSv1.3
Ciphersuites = {CIPHER}
Groups = X25519
"""
"""What wrk's OpenSSL offers: the one cipher and group that every proxy then has to take."""

NO_MODULES = {"GO111MODULE": "off", "GOPROXY": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local"}


def build() -> None:
    """The two Go programs, which need nothing but Go's standard library."""
    BUILT.mkdir(parents=True, exist_ok=True)
    for name in ("load", "goproxy"):
        source, program = ROOT / "bench" / f"{name}.go", BUILT / name
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            continue
        env = os.environ | NO_MODULES | {"GOCACHE": str(ROOT / ".cache" / "go")}
        built = subprocess.run(
            ("go", "build", "-o", program, source), env=env, capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise BenchError(f"go build {source.name}: {built.stderr.strip()}")


def wrk_figures(text: str) -> dict[str, float]:
    """wrk's count of requests, their rate, and how many failed."""
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    requests, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec: +([\d.]+)", text)
    if not requests or not rate:
        raise ValueError(f"not what wrk says: {text!r}")
    failed = sum(map(int, errors.groups())) if errors else 0
    return {"requests": int(requests[1]), "rate": float(rate[1]), "failed": failed + (int(bad[1]) if bad else 0)}


@dataclass(frozen=True)
class Closed:
    """A closed loop: requests and the proxy's processor seconds while it ran steadily, and the rate that wrk says."""

    requests: int
    cpu: float
    rate: float
    sent: int
    """All that wrk had answers to."""


class Lab:
    def __init__(self, zeros: int) -> None:
        self._stack = ExitStack()
        self._zeros = zeros
        self._ports = iter(random.sample(range(20000, 32000), 8000))
        self._folders = 0

    def __enter__(self) -> Self:
        with ExitStack() as building:
            building.push(self._stack)
            self._prepare()
            building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard < 19000:
            raise BenchError(f"ulimit -Hn is {hard}: 8,000 connections through a proxy need 19,000 descriptors")
        if not {PROXY_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
            raise BenchError("the proxy and the load need a processor each: CPU 0 and CPU 1")
        self._stack.enter_context(on_cpus(LOAD_CPU))
        self.folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True))
        )
        self.folder.chmod(0o755)
        self.cert, self.key = self.folder / "cert.pem", self.folder / "key.pem"
        subprocess.run(
            ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", self.key, "-out", self.cert),
            check=True, capture_output=True,
        )  # fmt: skip
        (self.folder / "openssl.cnf").write_text(OPENSSL)
        with (self.folder / "zeros").open("wb") as file:
            file.truncate(self._zeros)
        self._start_backend()

    def _start_backend(self) -> None:
        sink = self.address()
        self.run("sink", (BUILT / "load", "sink", "-listen", sink)).listens(sink)
        folder, port = self._folder("backend"), next(self._ports)
        self.backend_port = port
        self._status = f"127.0.0.1:{port}"
        command = nginx(Place(folder, self._status, "", self.cert, self.key), f"""http {{
{nginx_paths(folder)}
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    sendfile on;
    server {{
        listen 0.0.0.0:{port} backlog=4096;
        client_max_body_size 0;
        location / {{ return 200 "{BODY}"; }}
        location = /zeros {{ root {self.folder}; }}
        location = /status {{ stub_status; }}
        location = /sink {{ proxy_pass http://{sink}; proxy_http_version 1.1; proxy_request_buffering off; }}
    }}
}}""")  # fmt: skip
        self.run("backend", command.arguments, folder).listens(self._status)

    # starting things

    def _folder(self, name: str) -> Path:
        self._folders += 1
        folder = self.folder / f"{self._folders}-{name.replace(' ', '-')}"
        folder.mkdir()
        return folder

    def address(self) -> str:
        """A loopback address with a port that is free, from below the ephemeral ones."""
        for port in self._ports:
            with suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                return f"127.0.0.1:{port}"
        raise BenchError("no free port")

    def run(self, name: str, arguments: Sequence[object], folder: Path | None = None) -> Process:
        """A helper on the load's processor, until the end."""
        process = Process(name, [str(each) for each in arguments], folder or self._folder(name), [LOAD_CPU])
        self._stack.callback(process.stop)
        return process

    @contextmanager
    def proxy(
        self, proxy: Proxy, log: bool = False, workers: int = 1, cpus: tuple[int, ...] = (PROXY_CPU,)
    ) -> Iterator[Running]:
        """The proxy, listening; each start has its own address of the backend, and so its own ports towards it."""
        folder = self._folder(proxy.name)
        backend = f"127.0.0.{2 + self._folders % 250}:{self.backend_port}"
        place = Place(folder, self.address(), backend, self.cert, self.key, log, workers)
        command = proxy.command(place)
        process = Process(proxy.name, command.arguments, folder, cpus, command.env, command.stdout)
        try:
            yield Running(self, proxy, process, place, process.listens(place.frontend))
        finally:
            process.stop()

    # the load

    def client(
        self, name: str, part: str, address: str, *flags: object, cpus: tuple[int, ...] = (LOAD_CPU,)
    ) -> Process:
        arguments = (BUILT / "load", part, "-addr", address, "-ca", self.cert, *flags)
        return Process(name, [str(each) for each in arguments], self._folder(part), cpus, piped=True)

    def wrk(
        self, name: str, address: str, connections: int, seconds: int, script: bool, cpus: tuple[int, ...]
    ) -> Process:
        arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        if script:
            arguments += ["-s", str(ROOT / "bench" / "browser.lua")]
        env = {"OPENSSL_CONF": str(self.folder / "openssl.cnf")}
        return Process(name, [*arguments, f"https://{address}/small"], self._folder("wrk"), cpus, env, piped=True)

    def answered(self) -> int:
        """How many requests the backend has had, as it says itself."""
        host, _, port = self._status.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as asking:
            asking.sendall(b"GET /status HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: asking.recv(4096), b"")).decode()
        found = re.search(r"\s(\d+) (\d+) (\d+)\s", text)
        if not found:
            raise BenchError(f"backend: strange status {text!r}")
        return int(found[3])


@dataclass(frozen=True)
class Running:
    """A proxy that listens, and what can be done to it."""

    lab: Lab
    proxy: Proxy
    process: Process
    place: Place
    starting: float

    def check(self) -> None:
        """It answers as it should, with the cipher that all must use."""
        with self.client("check") as client:
            json.loads(client.finish())

    @contextmanager
    def client(self, part: str, *flags: object) -> Iterator[Process]:
        client = self.lab.client(self.proxy.name, part, self.place.frontend, *flags)
        try:
            yield client
        finally:
            client.stop()

    def costs(self, part: str, *flags: object) -> tuple[dict[str, float], float]:
        """What the client says of its work, and the proxy's processor seconds for it, preparations left out."""
        with self.client(part, *flags) as client:
            if client.says() != "ready":
                raise BenchError(f"{self.proxy.name}: {part} was not ready")
            before = self.process.cpu()
            client.told()
            figures = json.loads(client.says())
            cost = self.settled() - before
        return figures, cost

    def settled(self) -> float:
        """Its processor seconds once it has nothing left to do."""
        last, now = -1.0, self.process.cpu()
        for _ in range(100):
            if now - last < 0.0002:
                break
            time.sleep(0.01)
            last, now = now, self.process.cpu()
        return now

    def closed(
        self, connections: int, seconds: int, script: bool = False, cpus: tuple[int, ...] = (LOAD_CPU,)
    ) -> Closed:
        """wrk's closed loop. Counted is what comes after its first third of a second, with the handshakes."""
        wrk = self.lab.wrk(self.proxy.name, self.place.frontend, connections, seconds, script, cpus)
        try:
            time.sleep(0.35)
            requests, cpu = self.lab.answered(), self.process.cpu()
            time.sleep(seconds - 0.5)
            requests, cpu = self.lab.answered() - requests - 1, self.process.cpu() - cpu
            figures = wrk_figures(wrk.finish())
        finally:
            wrk.stop()
        if figures["failed"] or requests <= 0:
            raise BenchError(f"{self.proxy.name}: {figures['failed']:.0f} of {figures['requests']:.0f} requests failed")
        return Closed(requests, cpu, figures["rate"], int(figures["requests"]))

    def logged(self, requests: int) -> None:
        """Each of these requests has become a line in its log, which is then emptied."""
        log = self.place.folder / "access.log"
        deadline = time.monotonic() + 5
        while (lines := log.read_bytes().count(b"\n")) < requests:
            if time.monotonic() > deadline:
                raise BenchError(f"{self.proxy.name}: {lines} of {requests} requests were logged")
            time.sleep(0.05)
        self.settled()
        os.truncate(log, 0)
