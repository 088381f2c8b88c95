"""
A real ACME server: Pebble, of Let's Encrypt, with the DNS server that it asks.

It looks for names at the two ports that it is told, on this machine, and believes a DNS server of the test's own.
Tests count what it was asked for in its log.
"""

from __future__ import annotations

import datetime as dt
import http.client
import http.server
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.certificates import make
from lab.sidecar import environment, free_port, wait_until

STEADY = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
"""Without the vagaries by which Pebble tries out its clients; a test asks for those that it is about."""


@dataclass
class Pebble:
    """A running server."""

    port: int
    management: int
    dns: int
    ca: Path
    """The authority of the server's own certificate."""
    tls_port: int
    """Where names are checked by TLS."""
    http_port: int
    host: str = "127.0.0.1"
    """Where it listens itself."""
    log: list[str] = field(default_factory=list)

    @property
    def directory(self) -> str:
        return f"https://{self.host}:{self.port}/dir"

    def flags(self, acme_dir: Path, *names: str) -> list[str]:
        """For a sidecar that gets its certificate here."""
        return [
            f"--acme={','.join(names)}",
            f"--acme-directory={self.directory}",
            f"--acme-ca={self.ca}",
            f"--acme-dir={acme_dir}",
        ]

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(1 for line in list(self.log) if re.search(rf"(GET|POST|HEAD) /{path}", line))

    @property
    def orders(self) -> int:
        return self.asked("order-plz")

    @property
    def accounts(self) -> int:
        return self.asked("sign-me-up")

    def trusting(self) -> ssl.SSLContext:
        """A client that believes what this server issued, and nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._ask(self.management, "/roots/0").decode())
        return context

    def _ask(self, port: int, path: str) -> bytes:
        believing = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection(self.host, port, timeout=10, context=believing)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def resolve(self, name: str, address: str) -> None:
        """Have the DNS say that `name` is at `address`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.dns, timeout=10)
        try:
            for what in ("clear-a", "add-a"):
                connection.request("POST", f"/{what}", json.dumps({"host": name, "addresses": [address]}))
                response = connection.getresponse()
                assert response.read() is not None
                assert response.status == 200
        finally:
            connection.close()


@contextmanager
def pebble(
    folder: Path,
    tls_port: int,
    http_port: int,
    validity: float = 86400,
    env: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    listen: int = 0,
) -> Iterator[Pebble]:
    """
    Pebble and its DNS, ready; certificates are valid for `validity` seconds.

    `host`: where it listens, if others than this machine are to reach it; `listen`: at which port, if that matters.
    """
    cert, key = make(host, "localhost").write(folder / "pebble")
    listen, management, dns, dns_management = listen or free_port(), *(free_port() for _ in range(3))
    config = {
        "listenAddress": f"{host}:{listen}",
        "managementListenAddress": f"{host}:{management}",
        "certificate": str(cert),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "certificateValidityPeriod": int(validity),
    }
    written = folder / "pebble" / "config.json"
    written.write_text(json.dumps({"pebble": config}))
    names = [
        "pebble-challtestsrv", "-management", f"127.0.0.1:{dns_management}", "-dns01", f"127.0.0.1:{dns}",
        "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
    ]  # fmt: skip
    server = ["pebble", "-config", str(written), "-dnsserver", f"127.0.0.1:{dns}", "-strict"]
    running = Pebble(listen, management, dns_management, cert, tls_port, http_port, host)
    with _process(names, [], {}), _process(server, running.log, STEADY | dict(env or {})):
        wait_until(lambda: any("ACME directory available" in line for line in running.log), "Pebble is ready")
        wait_until(lambda: _listens(dns_management), "its DNS is ready")
        yield running


class Suggesting:
    """A directory in front of Pebble's, which adds what this Pebble lacks: when to renew (RFC 9773)."""

    def __init__(self, behind: Pebble, folder: Path) -> None:
        cert, key = make("front.example", "127.0.0.1").write(folder / "front")
        behind.ca.write_bytes(behind.ca.read_bytes() + cert.read_bytes())
        self.start, self.end = 3600.0, 7200.0
        """The window, in seconds from now."""
        self.asked: list[str] = []
        """Certificates asked for, by their ids."""
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/dir":
                    found = json.loads(behind._ask(behind.port, "/dir"))
                    found["renewalInfo"] = f"https://127.0.0.1:{front.port}/info"
                else:
                    front.asked.append(self.path.removeprefix("/info/"))
                    now = dt.datetime.now(dt.UTC)
                    ends = [(now + dt.timedelta(seconds=each)).isoformat() for each in (front.start, front.end)]
                    found = {"suggestedWindow": dict(zip(("start", "end"), ends, strict=True))}
                body = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Retry-After", "600")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.port}/dir"


@contextmanager
def suggesting(behind: Pebble, folder: Path) -> Iterator[Suggesting]:
    """Such a directory, in this process."""
    front = Suggesting(behind, folder)
    thread = threading.Thread(target=front.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield front
    finally:
        front.server.shutdown()
        thread.join()
        front.server.server_close()


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


@contextmanager
def _process(command: list[str], log: list[str], env: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip

    def collect() -> None:
        assert process.stdout is not None
        with process.stdout:
            log.extend(line.rstrip("\n") for line in process.stdout)

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    try:
        yield
    finally:
        process.kill()
        process.wait(10)
        reader.join(10)
