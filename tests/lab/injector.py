"""byfahrer as a user runs it: a process of its own, its lines, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.waiting import wait_until


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def byfahrer(*arguments, env=None):
    """Run a command to its end."""
    done = subprocess.run(
        (sys.executable, "-m", "byfahrer", *arguments),
        capture_output=True, text=True, timeout=60, env=os.environ | (env or {}), check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Injector:
    """`byfahrer run`, confined to one test's containers."""

    def __init__(self, scope, *options, env=None, level="debug"):
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            (sys.executable, "-m", "byfahrer", "--log-level", level, "run", "--only-label", scope, *options),
            stderr=subprocess.PIPE, text=True, env=os.environ | (env or {}),
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))

    def says(self, text, times=1, seconds=60.0):
        """Wait for lines with `text`; the last of them."""

        def said():
            assert self._process.poll() is None or self._reader.is_alive() or self.saying(text), self.lines
            return len(self.saying(text)) >= times

        wait_until(said, seconds)
        return self.saying(text)[-1]

    def saying(self, text):
        return [line for line in list(self.lines) if text in line]

    def is_ready(self):
        self.says("Connected to")
        return self

    @property
    def pid(self):
        return self._process.pid

    @property
    def cpu_seconds(self):
        """What it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number):
        self._process.send_signal(number)

    def freeze(self):
        self.send(signal.SIGSTOP)

    def thaw(self):
        self.send(signal.SIGCONT)

    def ends(self):
        """Its exit code, once it has ended."""
        code = self._process.wait(timeout=20)
        self._reader.join(timeout=5)
        self._process.stderr.close()
        return code

    def stop(self, number=signal.SIGTERM):
        if self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(number)
        return self.ends()

    @property
    def ended(self):
        return self._process.returncode is not None


@contextmanager
def injectors(lab):
    """Starts `byfahrer run` for one test's containers; all are stopped before these are removed."""
    running = []

    def start(*options, env=None, **more):
        running.append(Injector(lab.scope, *options, env=lab.env | (env or {}), **more))
        return running[-1]

    try:
        yield start
    finally:
        for each in running:
            if not each.ended:
                each.stop()
            print(*each.lines, sep="\n")  # shown where a test fails
