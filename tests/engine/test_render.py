"""What `byfahrer render` prints is a compose file that runs, and whose sidecars serve TLS."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from lab.engine import fetch
from lab.injector import byfahrer
from lab.waiting import wait_until

COMPOSE = """\
services:
  web:
    image: httpcheck
    labels:
      byfahrer-test: {mark}
      byfahrer.proxy-image: sslterm
      byfahrer.frontend: ":443"
"""


@pytest.fixture
def compose(lab, tmp_path):
    """Runs `docker-compose` on files here, as a project of this test's; what it made is removed by its mark."""
    base = ["docker", "compose"]
    if subprocess.run([*base, "version"], capture_output=True, check=False).returncode:
        base = ["docker-compose"]

    def run(*arguments):
        done = subprocess.run(
            [*base, "-p", lab.mark, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    if (tmp_path / "all.yaml").exists():
        run("-f", "all.yaml", "down")
    elif (tmp_path / "compose.yaml").exists():
        run("-f", "compose.yaml", "down")


def container(lab, service):
    (found,) = lab.api.containers(
        all=True, filters={"label": [f"com.docker.compose.project={lab.mark}", f"com.docker.compose.service={service}"]}
    )
    return found["Id"]


def test_a_compose_service_gets_its_sidecar_in_the_same_file(lab, compose, tmp_path):
    (tmp_path / "compose.yaml").write_text(COMPOSE.format(mark=lab.mark))
    compose("-f", "compose.yaml", "up", "-d", "web")
    web = container(lab, "web")
    name = lab.look(web)["Name"].lstrip("/")
    done = byfahrer("render", name)
    assert done.code == 0, done.err
    (tmp_path / "sidecar.yaml").write_text(done.out)
    (tmp_path / "all.yaml").write_text(compose("-f", "compose.yaml", "-f", "sidecar.yaml", "config"))
    compose("-f", "compose.yaml", "-f", "sidecar.yaml", "up", "-d")

    wait_until(lambda: fetch(lab.address(web), port=443))
    sidecar = lab.look(container(lab, f"{name}-proxy"))
    host = sidecar["HostConfig"]
    assert container(lab, "web") == web
    assert sidecar["Config"]["User"] == "64443:64443"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["PidsLimit"]) == (True, ["ALL"], 64)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["Memory"], host["MemorySwap"]) == (256 * 1024**2, 256 * 1024**2)
    assert lab.sidecars(web) == []  # not byfahrer's


def test_any_container_gets_one_by_its_name(lab, compose, tmp_path):
    plain = lab.run("plain", asks=False)
    stopped = lab.run("stopped", start=False)
    names = [f"{lab.mark}-plain", f"{lab.mark}-stopped"]
    by_hand = byfahrer("render", names[0], "--set", "mode=tcp", "--set", "frontend=:8443")
    labelled = byfahrer("render", names[1], names[1])
    (tmp_path / "all.yaml").write_text(by_hand.out)
    compose("-f", "all.yaml", "up", "-d")

    wait_until(lambda: fetch(lab.address(plain), port=8443))
    assert list(yaml.safe_load(labelled.out)["services"]) == [f"{names[1]}-proxy"]
    assert lab.status(stopped) == "created"


def test_what_cannot_be_rendered_is_one_line(lab):
    lab.run("bad", labels={"byfahrer.mode": "sctp"})
    done = byfahrer("render", f"{lab.mark}-bad")

    assert (done.code, done.out) == (1, "")
    assert done.err == f"byfahrer: '{lab.mark}-bad': byfahrer.mode='sctp': expected http or tcp\n"
    assert byfahrer("render").code == 2
