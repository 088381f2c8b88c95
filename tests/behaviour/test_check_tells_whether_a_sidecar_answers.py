"""`sslterm check`: 0 when the sidecar beside it answers TLS, without disturbing backend or log; 1 and why when not."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack

import pytest

from lab.backend import backend, echo_requests
from lab.client import Client, post, relay
from lab.namespace import namespace
from lab.sidecar import free_port, has_ipv6, hello_backend, refused, sidecar


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", *(["[::]", "[::1]"] if has_ipv6() else [])])
@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_it_finds_the_sidecar_wherever_it_listens(port, host, mode):
    env = {"SSLTERM_FRONTEND_ADDR": f"{host}:{port}", "SSLTERM_MODE": mode}
    with socket.create_server(("127.0.0.1", 0)) as backend:
        env["SSLTERM_BACKEND_ADDR"] = f"127.0.0.1:{backend.getsockname()[1]}"
        with sidecar(env=env) as running:
            result = refused("check", env=env)
            backend.setblocking(False)
            with pytest.raises(BlockingIOError):
                backend.accept()

            assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert running.access == []
    assert not running.said("WARN|ERROR")


def test_auto_is_looked_for_on_both_ports():
    env = {"SSLTERM_FRONTEND_ADDR": "auto"}
    with namespace() as private:
        for port in (443, 8443):
            with sidecar(f"--frontend-addr=:{port}", before=private.enter):
                assert refused("check", env=env, before=private.enter).returncode == 0


@pytest.mark.parametrize("flags", [["-frontend-addr", ":{}"], ["--frontend-addr=:{}"], ["-frontend-addr=:{}"]])
def test_it_takes_the_sidecars_own_flags(port, flags):
    with sidecar(f"--frontend-addr=127.0.0.1:{port}"):
        assert refused("check", *(flag.format(port) for flag in flags)).returncode == 0


def test_nobody_there_is_1_and_one_line():
    port = free_port()
    result = refused("check", "--frontend-addr", f"127.0.0.1:{port}", "--listen-when=always")

    assert result.returncode == 1
    assert result.stderr == f"sslterm check: 127.0.0.1 port {port}: Connection refused\n"


def test_a_server_that_is_no_sidecar_is_1():
    with hello_backend() as port:
        result = refused("check", f"--frontend-addr=127.0.0.1:{port}")

    assert result.returncode == 1
    assert "does not answer TLS" in result.stderr


@pytest.mark.parametrize(("clients", "code"), [(3, 0), (1, 1)])
def test_one_that_is_full_is_well_and_one_that_hangs_is_not(clients, code):
    """In neither is a new client answered; what tells them apart is how many the sidecar has accepted."""
    with ExitStack() as all_of_it:
        server = all_of_it.enter_context(backend(echo_requests))
        running = all_of_it.enter_context(relay(server, "--max-connections=3"))
        for _ in range(clients):
            all_of_it.enter_context(Client(running.port)).send(post(b"rest")[:-2])
        flags = f"--frontend-addr=127.0.0.1:{running.port}", "--max-connections=3"
        if code:
            running.process.send_signal(signal.SIGSTOP)
            all_of_it.callback(running.process.send_signal, signal.SIGCONT)
        result = refused("check", *flags)

    full = "full: max-connections=3 clients are served, and new ones wait"
    silent = f"127.0.0.1 port {running.port}: no answer in time"
    assert (result.returncode, result.stderr) == (code, f"sslterm check: {silent if code else full}\n")


@pytest.mark.parametrize("networks", ["0.0.0.0/0,::/0", "127.0.0.1", "10.0.0.0/8"])
def test_it_sends_a_proxy_header_where_one_is_asked_of_it(port, networks):
    env = {"SSLTERM_FRONTEND_ADDR": f"127.0.0.1:{port}", "SSLTERM_ACCEPT_PROXY": networks}
    with sidecar(env=env) as running:
        assert refused("check", env=env).returncode == 0
    assert not running.said("PROXY|WARN|ERROR")
