"""A job that ends is over, although it had a sidecar: nothing of ours keeps it, its namespace or `compose up` alive."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from lab.compose import project
from lab.engine import fetch
from lab.kindness import IMAGE
from lab.waiting import wait_until

ASKS = {"byfahrer.proxy-image": IMAGE}
JOB = """
import http.server, os, threading
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()
        if self.path == "/end":
            os._exit(3)
    def log_message(self, *_):
        pass
threading.Timer(60, os._exit, (4,)).start()
http.server.HTTPServer(("127.0.0.1", 8080), Answers).serve_forever()
"""
"""Ends with code 3 when it is told to, which is when it has a sidecar."""


@pytest.fixture
def daemon(injector):
    return injector("--allow-image", IMAGE).is_ready()


def job(lab):
    """The ID of the job, once it runs and is served."""
    wanted = {"label": [f"byfahrer-test={lab.mark}", "job=yes"], "status": ["running"]}

    def served():
        found = lab.api.containers(filters=wanted)
        asked = [each["Id"] for each in found if "byfahrer.target" not in each["Labels"]]
        return asked and lab.served(asked[0]) and asked[0]

    return wait_until(served, 30)


def end(lab, target):
    """Tell the job to end; its sidecar's process, as a path that is there while that lives."""
    sidecar = lab.sidecars(target)[0]
    process = Path(f"/proc/{sidecar['State']['Pid']}")
    began = (process / "stat").read_text().rpartition(")")[2].split()[19]
    assert lab.namespace(sidecar["Id"]) == lab.namespace(target)
    fetch(lab.address(target), "/end")
    return process, began


def is_over(process, began):
    """No such process any more; its number may be another's by now."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[19] != began
    except (FileNotFoundError, ProcessLookupError):
        return True


class Background:
    """A command that runs beside the test."""

    def __init__(self, run):
        self.result = None
        self._run = run
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    def _keep(self):
        self.result = self._run()

    def ends(self):
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.result


def nothing_is_left(lab, target, process, began):
    lab.is_left_alone(target)
    wait_until(lambda: is_over(process, began), 10)
    wait_until(lambda: lab.status(target) in ("gone", "exited"), 10)


def test_docker_run_of_a_job_returns_with_its_code(lab, daemon):
    command = (
        "docker", "run", "--rm", "--name", f"{lab.mark}-job", "--label", f"byfahrer-test={lab.mark}",
        "--label", "job=yes", "--label", f"byfahrer.proxy-image={IMAGE}",
        "--entrypoint", "python3", "httpcheck", "-c", JOB,
    )  # fmt: skip
    running = Background(lambda: subprocess.run(command, capture_output=True, timeout=90, check=False).returncode)
    target = job(lab)
    process, began = end(lab, target)

    assert running.ends() == 3
    nothing_is_left(lab, target, process, began)
    assert lab.status(target) == "gone"


UP = ("up",)
ABORTED = ("up", "--abort-on-container-exit", "--exit-code-from", "job")


@pytest.mark.parametrize("how", [UP, ABORTED], ids=["plain", "abort"])
def test_compose_up_of_a_job_returns(lab, daemon, tmp_path, how):
    services = {
        "job": {"image": "httpcheck", "entrypoint": ["python3", "-c", JOB], "labels": {**ASKS, "job": "yes"}},
    }
    if how is ABORTED:  # then it is not alone, and ends the others, too
        services["other"] = {"image": "httpcheck", "labels": ASKS}
    with project(lab, tmp_path, services) as compose:
        running = Background(lambda: compose(*how))
        target = job(lab)
        process, began = end(lab, target)
        code, said = running.ends()

        assert code == (3 if how is ABORTED else 0), said
        nothing_is_left(lab, target, process, began)
        lab.is_left_alone()
