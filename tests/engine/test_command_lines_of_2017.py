"""
The commands of the two READMEs of 2017, with our images under the old names.

As they stand but for two things. Their image brought a certificate along, ours makes one when asked to, since no key is
ever part of an image; and the service is published with mode=host instead of over the ingress mesh, which needs IPVS in
the kernel.
"""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import contextmanager

import pytest

from lab.aftermath import nothing_left
from lab.engine import swarm
from lab.waiting import wait_until

OLD_NAMES = {"qnib/gosslterm": "sslterm", "qnib/byfahrer": "byfahrer", "qnib/plain-httpcheck": "httpcheck"}


def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)


def docker(*arguments):
    return subprocess.run(("docker", *arguments), check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def terminal(command):
    """A command that wants a terminal (`-ti`) and stays in the foreground."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, shell=True, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours)


@pytest.fixture(autouse=True)
def old_names(engine):
    """Our images under the old names; what these meant before, they mean again afterwards."""
    before = {name: docker("images", "--quiet", "--no-trunc", name) for name in OLD_NAMES}
    for name, ours in OLD_NAMES.items():
        docker("tag", ours, name)
    with nothing_left(engine, "www", "www-proxy"):
        yield
    for name, image in before.items():
        docker("rmi", "--no-prune", name)
        if image:
            docker("tag", image.split()[0], name)


def test_gosslterm_joins_a_task_and_takes_its_certificate(engine):
    with swarm(engine):
        created = docker(
            "service", "create", "--quiet", "--name", "http", "--replicas=1", "--endpoint-mode", "dnsrr",
            "--publish", "mode=host,published=8081,target=8081", "--env", "HTTPCHECK_MAKE_CERT=1",
            "qnib/plain-httpcheck",
        )  # fmt: skip
        service = created.split()[0]
        try:
            task = "docker ps -qlf label=com.docker.swarm.service.name=http"
            made = f"docker exec $({task}) /usr/bin/python3 -c 'open(\"/opt/qnib/ssl/cert.pem\")'"
            wait_until(lambda: shell(made).returncode == 0, 60)
            with terminal(
                f"docker run -ti --rm --network=container:$({task}) --volumes-from=$({task})"
                " -e GOSSLTERM_BACKEND_ADDR=127.0.0.1:8080 -e GOSSLTERM_FRONTEND_ADDR=:8081"
                " -e GOSSLTERM_CERT=/opt/qnib/ssl/cert.pem -e GOSSLTERM_KEY=/opt/qnib/ssl/key.pem qnib/gosslterm"
            ):
                fetch = 'curl --insecure "https://127.0.0.1:8081/pi/100"'
                wait_until(lambda: shell(fetch).returncode == 0, 30)
                ours = docker("ps", "--quiet", "--filter", "ancestor=qnib/gosslterm")

                assert shell(fetch).stdout == "Welcome: pi(100)=3.151493\n"
                wait_until(lambda: "| GET /pi/100" in docker("logs", ours), 10)
                assert "Load cert '/opt/qnib/ssl/cert.pem' and key '/opt/qnib/ssl/key.pem'" in docker("logs", ours)
        finally:
            docker("service", "rm", service)


def test_byfahrer_gives_www_its_proxy():
    with (
        terminal("docker run -ti --rm -v /var/run/docker.sock:/var/run/docker.sock qnib/byfahrer"),
        terminal(
            "docker run --rm --name www -ti -p 8081:8081"
            " --label org.qnib.byfahrer.proxy-image=qnib/gosslterm qnib/plain-httpcheck"
        ),
    ):
        fetch = 'curl --insecure "https://127.0.0.1:8081/pi/99999"'
        wait_until(lambda: shell(fetch).returncode == 0, 60)

        assert shell(fetch).stdout == "Welcome: pi(99999)=3.141583\n"
        wait_until(lambda: "| GET /pi/99999" in docker("logs", "www-proxy"), 10)
        # The old program did not do this.
        docker("stop", "--time", "1", "www")
        wait_until(lambda: not docker("ps", "--all", "--quiet", "--filter", "name=^/www-proxy$"), 10)
