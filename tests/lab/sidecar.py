"""A real sslterm process: start it, wait for what it says, prove that it ended well."""

from __future__ import annotations

import http.client
import http.server
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that any wait may take before the test fails; nothing is ever asserted to be faster."""

SERVING = r"Serving \w+ on "


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that would configure a sidecar, and with `extra`."""
    ours = ("SSLTERM_", "GOSSLTERM_", "LOG_LEVEL", "OPENSSL_CONF")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | dict(extra or {})


def has_ipv6() -> bool:
    """Whether loopback has an IPv6 address, which it mostly lacks in containers."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def free_port() -> int:
    """
    A TCP port that nobody listens on at the moment, below those that the kernel gives to whoever connects.

    One of these would be anybody's until it is bound: each test beside this one makes connections by the hundred.
    """
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for _ in range(1000):
        port = secrets.choice(range(max(1024, highest - 12_000), highest))
        with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", port))
            return port
    raise AssertionError("no port is free")


def wait_until(look: Callable[[], T | None], what: str) -> T:
    """The first true thing that `look` returns; fails with `what` if that never comes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"never happened: {what}")


class Sidecar:
    """A running process; its two output streams are collected line by line."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self.access: list[str] = []
        self._readers = [
            threading.Thread(target=self._collect, args=each, daemon=True)
            for each in ((self.process.stderr, self.log), (self.process.stdout, self.access))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(stream: Any, lines: list[str]) -> None:
        with stream:
            lines.extend(line.rstrip("\n") for line in iter(stream.readline, ""))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        """Where it serves, as it said itself."""
        found = re.search(SERVING + r"'.*:(\d+)'", "\n".join(self.log))
        assert found is not None, self.log
        return int(found[1])

    def said(self, pattern: str) -> list[str]:
        """Its log lines so far in which `pattern` is found."""
        return [line for line in list(self.log) if re.search(pattern, line)]

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until it said `pattern` that many times; the lines."""

        def look() -> list[str] | None:
            found = self.said(pattern)
            if len(found) >= times:
                return found
            assert self.process.poll() is None, f"exited with {self.process.returncode}: {self.log}"
            return None

        return wait_until(look, f"{times} x {pattern!r} in {self.log}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def stop(self) -> None:
        """End it as `docker stop` does, and prove that it ended well."""
        self.signal(signal.SIGTERM)
        code = self.ended()

        assert code == 0, self.log
        assert not self.said("unexpected [A-Z]|Traceback"), self.log


@contextmanager
def sidecar(
    *flags: str,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    ready: str | None = SERVING,
) -> Iterator[Sidecar]:
    """
    `python -m sslterm` with these flags, ready to serve; at the end it must still run, and end well.

    `before`: a command to run it by (`nsenter …`). `ready`: what to wait for; None to wait for nothing, and then its
    end is the test's own business. Without a `--backend-addr` the test is not about backends: it serves without one.
    """
    alone = not any(each.startswith("--backend-addr") for each in flags)
    environ = {"SSLTERM_LISTEN_WHEN": "always"} if alone else {}
    running = Sidecar([*before, sys.executable, "-m", "sslterm", *flags], environment(environ | dict(env or {})))
    try:
        if ready is not None:
            running.wait_for(ready)
        yield running
        if ready is not None:
            running.stop()
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.ended()


def refused(
    *flags: str, env: Mapping[str, str] | None = None, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """`python -m sslterm` with flags by which it is expected to end on its own."""
    command = [*before, sys.executable, "-m", "sslterm", *flags]
    return subprocess.run(command, env=environment(env), capture_output=True, text=True, timeout=PATIENCE, check=False)


class _Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are nothing to print."""


@contextmanager
def hello_backend(host: str = "127.0.0.1") -> Iterator[int]:
    """An HTTP server that says hello, in this process; its port."""
    server = _Server((host, 0), _Hello)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def any_certificate() -> ssl.SSLContext:
    """A client that accepts whatever it is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def get(port: int, context: ssl.SSLContext | None = None, host: str = "localhost") -> str:
    """Fetch `/` over HTTPS; the body."""
    connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context or any_certificate())
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def served_certificate(port: int, host: str = "127.0.0.1") -> bytes:
    """The leaf that a handshake gets now, as DER."""
    with (
        socket.create_connection((host, port), timeout=PATIENCE) as raw,
        any_certificate().wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        leaf = tls.getpeercert(binary_form=True)
        with suppress(OSError):
            tls.unwrap()
    assert leaf is not None
    return leaf
