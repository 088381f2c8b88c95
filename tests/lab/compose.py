"""Docker Compose, whichever version is installed, on a project of a test's own."""

from __future__ import annotations

import functools
import json
import subprocess
from contextlib import contextmanager


@functools.cache
def command():
    """The plugin; or, where it is not there, the command of the first version."""
    plugin = subprocess.run(("docker", "compose", "version"), check=False, capture_output=True)
    return ("docker", "compose") if plugin.returncode == 0 else ("docker-compose",)


class Project:
    """`services` as in a Compose file; each gets the test's label."""

    def __init__(self, lab, folder, services):
        marked = {
            name: {**service, "labels": {"byfahrer-test": lab.mark, **service.get("labels", {})}}
            for name, service in services.items()
        }
        self._file = folder / "compose.yaml"
        self._file.write_text(json.dumps({"version": "2.4", "services": marked}))
        self._name = lab.mark

    def __call__(self, *arguments, seconds=90):
        """Run a command of Compose to its end: its exit code, and what it said."""
        done = subprocess.run(
            (*command(), "--project-name", self._name, "--file", self._file, *arguments),
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@contextmanager
def project(lab, folder, services):
    made = Project(lab, folder, services)
    try:
        yield made
    finally:
        code, said = made("down", "--volumes", "--timeout", "1")
        assert code == 0, said
