"""The README's commands, as they stand there, on a real engine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from lab import readme
from lab.aftermath import nothing_left
from lab.engine import swarm

ANSWER = "Welcome: pi(100)=3.151493"


def docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), check=True, capture_output=True, text=True).stdout


@pytest.fixture(autouse=True)
def _anew(engine: APIClient) -> Iterator[None]:
    names = ("www", "shop", "plain", "api")
    sidecars = (f"{name}-{end}" for name in names for end in ("tls", "proxy"))
    volumes = ("byfahrer", "byfahrer-run", "examples_byfahrer", "examples_byfahrer-run")
    with nothing_left(engine, "byfahrer", *names, *sidecars, volumes=volumes):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the reader stands: a clone, and the certificate that the examples mount."""
    (tmp_path / "examples").symlink_to(readme.ROOT / "examples")
    certs = tmp_path / "certs"
    certs.mkdir()
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "7",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", certs / "site.key",
         "-out", certs / "site.crt"),
        check=True, capture_output=True,
    )  # fmt: skip
    shutil.copy(certs / "site.crt", certs / "ca.crt")
    return tmp_path


def compose() -> str:
    """`docker compose`, or the command of its first version where the plugin is not there."""
    plugin = subprocess.run(("docker", "compose", "version"), check=False, capture_output=True)
    return "docker compose" if plugin.returncode == 0 else "docker-compose"


def run(section: str, folder: Path) -> list[str]:
    """Every block under a heading; what each printed."""
    printed = []
    for block in readme.sections()[section]:
        script = block.replace("docker compose", compose())
        done = subprocess.run(
            ("bash", "-euo", "pipefail", "-c", script),
            cwd=folder, check=False, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout)
    return printed


def test_a_sidecar_by_hand(folder: Path) -> None:
    first, second = run("A sidecar by hand", folder)
    assert ANSWER in first
    assert ANSWER in second


def test_by_label(folder: Path) -> None:
    first, second = run("By label", folder)
    assert ANSWER in first
    assert "www-proxy" in first
    assert ":8081 -> 127.0.0.1:8080" in first
    assert "httpcheck" in second


def byfahrer() -> None:
    """The daemon, as an earlier section starts it."""
    mounts = ("/var/run/docker.sock:/var/run/docker.sock", "byfahrer:/var/lib/byfahrer", "byfahrer-run:/run/byfahrer")
    docker("run", "-d", "--name", "byfahrer", *(word for each in mounts for word in ("-v", each)), "byfahrer")


def test_who_may_call(folder: Path) -> None:
    byfahrer()
    (printed,) = run("Who may call", folder)
    assert '["client-cert", ":' in printed.lower()
    assert "uri=spiffe://byfahrer.internal/client/laptop" in printed.lower()
    assert "laptop" in printed


def test_a_swarm_service(folder: Path) -> None:
    with swarm():
        byfahrer()
        (printed,) = run("A Swarm service", folder)
    assert ANSWER in printed


def test_compose(folder: Path, engine: APIClient) -> None:
    (printed,) = run("Compose", folder)
    assert ANSWER in printed
    assert engine.containers(all=True, filters={"label": "byfahrer.target"}) == [], "nobody is there to reap them now"
