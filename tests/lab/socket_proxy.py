"""The filter of deploy/ before the engine's socket: a real HAProxy, and what it refused."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"


class SocketProxy:
    """HAProxy with one of the configurations in deploy/."""

    def __init__(self, configuration, folder, changes=()):
        self.path = Path(folder) / "docker.sock"
        text = (DEPLOY / configuration).read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        used = Path(folder) / "haproxy.cfg"
        used.write_text(text)
        self.lines: list[str] = []
        """What it logged: requests that were refused, or went wrong."""
        engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "HAProxy is not here: tools/clients.sh installs it"
        self._process = subprocess.Popen(
            (program, "-db", "-f", used),
            env={"PROXY_SOCKET": str(self.path), "ENGINE_SOCKET": engine},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_until(lambda: self.path.exists() or self._process.poll() is not None)
        assert self._process.poll() is None, self.lines

    @property
    def env(self):
        return {"DOCKER_HOST": f"unix://{self.path}"}

    def refused(self):
        """Requests that did not get through: `403 POST /v1.41/build`."""
        return [line for line in list(self.lines) if line.startswith("403 ")]

    def sockets(self):
        """How many it has open: its own, its clients', and those to the engine."""
        links = [link.readlink() for link in Path(f"/proc/{self._process.pid}/fd").iterdir()]
        return len([link for link in links if str(link).startswith("socket:")])

    def ask(self, method, path, body=None, **headers):
        """The status of a request through it."""
        with self.connection() as connection:
            # What is refused is answered before its body has come.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, headers)
            return connection.getresponse().status

    @contextmanager
    def connection(self, timeout=20):
        """A client's."""
        made = http.client.HTTPConnection("engine", timeout=timeout)
        made.sock = socket.socket(socket.AF_UNIX)
        try:
            made.sock.settimeout(timeout)
            made.sock.connect(str(self.path))
            yield made
        finally:
            made.close()

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=10)
        self._reader.join(timeout=5)
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))


@contextmanager
def socket_proxy(configuration="socket-proxy.cfg", *changes):
    """One that runs, in a folder of its own: paths of sockets are short. `changes`: texts, and others for them."""
    with tempfile.TemporaryDirectory(prefix="byf-", dir="/tmp") as folder:
        made = SocketProxy(configuration, folder, changes)
        try:
            yield made
        finally:
            made.close()
            print(*made.lines, sep="\n")
