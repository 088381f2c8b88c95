"""A network namespace of a test's own: what a container has, without an engine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Namespace:
    """Held open by a process that only waits."""

    pid: int

    @property
    def enter(self) -> list[str]:
        """What to put before a command so that it runs inside."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", f"--target={self.pid}", "--net", *user]

    def run(self, *command: str) -> str:
        """Run a command inside to its end; what it printed."""
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True, timeout=30).stdout


def without(*capabilities: str) -> list[str]:
    """What to put before a command so that it lacks these capabilities, which only root has to begin with."""
    dropped = ",".join(f"-{each}" for each in capabilities)
    return ["setpriv", f"--bounding-set={dropped}"] if os.geteuid() == 0 else []


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace with its loopback interface up and nothing else in it."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = "ip link set lo up && echo up && exec cat"
    holder = subprocess.Popen(
        ["unshare", *user, "--net", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield Namespace(holder.pid)
        holder.communicate()  # closes its standard input, at whose end it exits
