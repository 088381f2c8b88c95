"""
A real image registry on loopback, which the engine speaks plain HTTP with: Debian's docker-registry, with a password.

What it was asked for is counted in its log. Stopped by SIGSTOP, it is one that hangs.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

from docker.errors import APIError

from lab.sidecar import free_port
from lab.waiting import wait_until

USER, PASSWORD = "joe", "open-sesame"
HASHED = "$2b$04$jxf8QdrgiFMXD64FHvzXweiuEpMBZ0xOHiUdk7p7ljDWVIMNMLz6m"
"""That password; bcrypt at its cheapest, since nothing in Python's standard library makes it any more."""


@dataclass
class Registry:
    """A running one."""

    api: object
    port: int
    process: subprocess.Popen
    log: list[str] = field(default_factory=list)
    pushed: set[str] = field(default_factory=set)

    @property
    def host(self):
        return f"127.0.0.1:{self.port}"

    def name(self, repository="shop/sslterm", tag="latest"):
        return f"{self.host}/{repository}:{tag}"

    def push(self, image="sslterm", name=None):
        """Put an image here, and leave it on the engine under its old name only; the name that it has here."""
        name = name or self.name()
        repository, _, tag = name.rpartition(":")
        self.pushed.add(name)
        self.api.tag(image, repository, tag)
        for line in self.api.push(
            repository, tag, stream=True, decode=True, auth_config={"username": USER, "password": PASSWORD}
        ):
            assert "error" not in line, line
        self.forget(name)
        return name

    def forget(self, name):
        """Have the engine not know it any more by this name."""
        with contextlib.suppress(APIError):
            self.api.remove_image(name, force=True, noprune=True)

    def asked(self, repository="shop/sslterm"):
        """
        How often somebody who was let in asked which image a name stands for.

        That is HEAD, with which each pull of a tag begins. Its GET, for what the image is made of, is left out when the
        engine's containerd still has the manifest of an earlier pull or push of the same image.
        """
        wanted = re.compile(rf'"HEAD /v2/{repository}/manifests/\S+ HTTP/1\.1" 200 ')
        return sum(1 for line in list(self.log) if wanted.search(line))

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def configuration(self, folder, password=PASSWORD):
        """Docker's configuration with a login here: what DOCKER_CONFIG names."""
        folder.mkdir(exist_ok=True)
        entry = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {self.host: {"auth": entry}}}))
        return {"DOCKER_CONFIG": str(folder)}


@contextmanager
def registry(api, folder):
    """One with nothing in it, ready; `folder` keeps what it gets."""
    port = free_port()
    (folder / "htpasswd").write_text(f"{USER}:{HASHED}\n")
    (folder / "registry.json").write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "warn"},
                "storage": {"filesystem": {"rootdirectory": str(folder / "images")}},
                "http": {"addr": f"127.0.0.1:{port}"},
                "auth": {"htpasswd": {"realm": "lab", "path": str(folder / "htpasswd")}},
            }
        )
    )
    process = subprocess.Popen(
        ("docker-registry", "serve", str(folder / "registry.json")),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    made = Registry(api, port, process)

    def collect():
        with process.stdout:
            made.log.extend(line.rstrip("\n") for line in process.stdout)

    def answers():
        probe = subprocess.run(("curl", "-sS", f"http://{made.host}/v2/"), capture_output=True, check=False)
        assert process.poll() is None, made.log
        return b"UNAUTHORIZED" in probe.stdout

    reader = threading.Thread(target=collect, daemon=True)
    reader.start()
    try:
        wait_until(answers)
        yield made
    finally:
        process.kill()
        process.wait(10)
        reader.join(10)
        for name in made.pushed:
            made.forget(name)
