"""A backend that others reach in plain text is told everywhere; a strict sidecar is unhealthy for it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from lab.admin import ask, metrics, status
from lab.sidecar import environment, free_port, sidecar, wait_until


@pytest.fixture
def admin(tmp_path):
    return tmp_path / "admin.sock"


def check(*flags):
    command = [sys.executable, "-m", "sslterm", "check", *flags]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=30)


def flags(admin, port, *more):
    return (
        f"--frontend-addr=127.0.0.1:{free_port()}",
        f"--backend-addr=127.0.0.1:{port}",
        f"--admin-addr=unix:{admin}",
        *more,
    )


def test_one_that_listens_everywhere_is_told_once_and_serves(admin):
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        given = flags(admin, port)
        with sidecar(*given) as running:
            told = running.wait_for("Bypass: ")

            assert len(told) == 1
            assert " WARN " in told[0]
            assert f"also listens on 0.0.0.0:{port}; have the target listen on 127.0.0.1 alone" in told[0]
            assert status(admin)["bypass"] == [f"0.0.0.0:{port}"]
            assert metrics(admin)["sslterm_bypass"] == 1
            assert ask(admin, "/ready") == (200, "ready\n")
            assert check(*given).returncode == 0


def test_a_strict_one_is_unhealthy_until_it_is_mended(admin):
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        given = flags(admin, port, "--strict=on")
        with sidecar(*given) as running:
            running.wait_for("Bypass: ")
            fault = f"clients can go round TLS: the backend also listens on 0.0.0.0:{port}"
            probe = check(*given)

            assert ask(admin, "/ready") == (503, f"{fault}\n")
            assert (status(admin)["ready"], status(admin)["fault"]) == (False, fault)
            assert (probe.returncode, probe.stderr) == (1, f"sslterm check: {fault}\n")
            server.close()
            with socket.create_server(("127.0.0.1", port)):
                running.wait_for("Clients cannot go round TLS any more")
                wait_until(lambda: ask(admin, "/ready") == (200, "ready\n"), "it is ready")

                assert check(*given).returncode == 0
                assert metrics(admin)["sslterm_bypass"] == 0
            assert len(running.said("Bypass: ")) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_a_backend_that_is_given_as_every_address_is_here_too(admin, host):
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        given = (*flags(admin, port, "--strict=on"), f"--backend-addr={host}:{port}")
        if host == "[::]":  # which leads to ::1
            server.close()
            server = socket.create_server(("::", port), family=socket.AF_INET6)
        with server, sidecar(*given) as running:
            assert f"also listens on {host}:{port};" in running.wait_for("Bypass: ")[0]
            assert not running.said("plaintext leaves")
            assert ask(admin, "/ready")[0] == 503
            assert check(*given).returncode == 1
            server.close()
            running.wait_for("listens no more")


def test_one_on_loopback_alone_is_fine(admin):
    with socket.create_server(("127.0.0.1", 0)) as server:
        given = flags(admin, server.getsockname()[1], "--strict=on")
        with sidecar(*given) as running:
            assert ask(admin, "/ready") == (200, "ready\n")
            assert check(*given).returncode == 0
            assert status(admin)["bypass"] == []
            assert metrics(admin)["sslterm_bypass"] == 0
            assert not running.said("Bypass")


def test_the_probe_of_a_strict_one_stays_light():
    with socket.create_server(("0.0.0.0", 0)) as server:
        code = (
            f"import sys\nfrom sslterm.check import bypass_of\nfrom sslterm.settings import Settings\n"
            f"print(bypass_of(Settings.resolve({{'backend-addr': '127.0.0.1:{server.getsockname()[1]}'}}, {{}})))\n"
            "print(' '.join(sys.modules))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    fault, modules = result.stdout.splitlines()

    assert "also listens on 0.0.0.0:" in fault
    assert not {name.partition(".")[0] for name in modules.split()} & {"anyio", "asyncio", "click", "loguru", "json"}
