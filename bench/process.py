"""A process under measurement: started on its processor, read through the kernel, and stopped with all its children."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PROXY_CPU, LOAD_CPU = 0, 1
NICE = -10
"""What all that is measured runs at, if it may, so that other work on the machine disturbs less."""
PATIENCE = 30.0
"""Seconds after which something that should have happened is a failure."""


class BenchError(Exception):
    """What makes the figures worthless: one line that names the proxy."""


@contextmanager
def on_cpus(*cpus: int) -> Iterator[None]:
    """What is started here runs on these processors and is preferred, without a taskset or nice between."""
    before, nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    os.sched_setaffinity(0, cpus)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        os.sched_setaffinity(0, before)


class Process:
    """A program and the processes that it starts."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        cpus: Sequence[int],
        env: Mapping[str, str] | None = None,
        stdout: str = "stdout",
        piped: bool = False,
    ) -> None:
        self.name = name
        self.complaints = folder / "stderr"
        ours = ("SSLTERM_", "GOSSLTERM_", "LOG_LEVEL", "OPENSSL_CONF")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        with on_cpus(*cpus), (folder / stdout).open("ab") as out, self.complaints.open("wb") as err:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                arguments, cwd=folder, env=clean | dict(env or {}), text=True, bufsize=1, start_new_session=True,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out, stderr=err,
            )  # fmt: skip
        with suppress(OSError):  # where the kernel weighs sessions before processes
            Path(f"/proc/{self._process.pid}/autogroup").write_text(str(NICE))

    # what it says, where its streams are pipes

    def told(self, line: str = "") -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")

    def says(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise BenchError(f"{self.name}: {self.complaint()}")
        return line.rstrip("\n")

    def finish(self, patience: float = PATIENCE) -> str:
        """All that it still writes until it ends, which it must do well."""
        try:
            out, _ = self._process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{self.name}: did not end within {patience:.0f} s") from None
        if self._process.returncode:
            raise BenchError(f"{self.name}: {self.complaint()}")
        return out

    def complaint(self) -> str:
        lines = self.complaints.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.poll()} and said nothing"

    # what the kernel says of it

    def pids(self) -> list[int]:
        """The process and its descendants that live now."""
        found = [self._process.pid]
        for pid in found:
            with suppress(OSError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    found += map(int, (thread / "children").read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of processor time so far, by each process's own clock: in nanoseconds, with threads that ended."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += time.clock_gettime_ns(~pid << 3 | 2)
        return total / 1e9

    def memory(self) -> tuple[float, float]:
        """Private and proportional memory of all its processes, in MB of 1,000,000 bytes."""
        private = proportional = 0
        for pid in self.pids():
            with suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                private += sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", rollup, re.MULTILINE)))
                proportional += sum(map(int, re.findall(r"^Pss: +(\d+)", rollup, re.MULTILINE)))
        return private * 1024 / 1e6, proportional * 1024 / 1e6

    # its beginning and its end

    def listens(self, address: str) -> float:
        """Waits until it accepts connections there; seconds since it was started."""
        host, _, port = address.rpartition(":")
        while time.monotonic() < self.started + PATIENCE:
            with suppress(OSError), socket.create_connection((host, int(port)), 1):
                return time.monotonic() - self.started
            if self._process.poll() is not None:
                raise BenchError(f"{self.name}: ended before it listened: {self.complaint()}")
            time.sleep(0.0005)
        raise BenchError(f"{self.name}: does not listen on {address}")

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Asks it to end, and ends what is left of it, by number."""
        pids = self.pids()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        for pid in pids:
            with suppress(OSError):  # mostly gone by now; a session of their own tells them from a number used again
                if os.getsid(pid) == self._process.pid:
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
