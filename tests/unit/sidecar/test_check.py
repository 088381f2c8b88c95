"""Where the probe looks, and what it says. (A real sidecar is probed in behaviour/.)"""

from __future__ import annotations

import ipaddress
import os
import socket
import threading

import pytest

from sslterm import check, netns
from sslterm.netns import Listener
from sslterm.settings import AUTO, Address, Settings


@pytest.mark.parametrize(
    ("frontend", "expected"),
    [
        (Address("", 8081), [("127.0.0.1", 8081), ("::1", 8081)]),
        (Address("0.0.0.0", 1), [("127.0.0.1", 1)]),
        (Address("::", 1), [("::1", 1)]),
        (Address("192.0.2.1", 1), [("192.0.2.1", 1)]),
        (AUTO, [("127.0.0.1", 443), ("127.0.0.1", 8443), ("::1", 443), ("::1", 8443)]),
    ],
)
def test_a_sidecar_is_looked_for_where_it_listens(frontend, expected):
    assert check.targets(frontend) == expected


def test_nobody_there(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("SSLTERM_FRONTEND_ADDR", f"127.0.0.1:{port}")
    monkeypatch.setenv("SSLTERM_LISTEN_WHEN", "always")

    assert check.main({}) == 1
    assert capsys.readouterr().err == f"sslterm check: 127.0.0.1 port {port}: Connection refused\n"


def test_nobody_there_although_the_backend_listens(monkeypatch, capsys):
    monkeypatch.setattr(check, "_OPENS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as backend:
        port = free.getsockname()[1]
        free.close()
        addresses = {
            "frontend-addr": f"127.0.0.1:{port}", "backend-addr": f"127.0.0.1:{backend.getsockname()[1]}",
        }  # fmt: skip

        assert check.main(addresses) == 1
    assert capsys.readouterr().err == f"sslterm check: 127.0.0.1 port {port}: Connection refused\n"
    assert check.main(addresses) == 0
    assert "waiting for the backend: nothing listens on 127.0.0.1" in capsys.readouterr().err


def look(monkeypatch, *found, **settings):
    listeners = [Listener(ipaddress.ip_address(host), port, uid) for host, port, uid in found]
    monkeypatch.setattr(netns, "read_listeners", lambda: listeners)
    monkeypatch.setattr(netns, "listening", lambda ports: [each for each in listeners if each.port in ports])
    return check.bypass_of(Settings(backend_addr=AUTO, **settings))


def test_whatever_auto_may_have_chosen_is_audited(monkeypatch):
    """A second listener must not hide the first."""
    found = ("0.0.0.0", 8080, 0), ("127.0.0.1", 9090, 0)

    assert look(monkeypatch, *found).endswith("also listens on 0.0.0.0:8080")
    assert look(monkeypatch, found[1], ("127.0.0.1", 9091, 0)) == ""


def test_its_own_ports_are_none_that_auto_may_have_chosen(monkeypatch):
    mine = os.geteuid()
    found = ("127.0.0.1", 8080, 0), ("::", 8443, mine), ("::", 80, mine)

    assert look(monkeypatch, *found, frontend_addr=AUTO, redirect_addr=Address("", 80)) == ""
    assert look(monkeypatch, *found, frontend_addr=Address("", 8443), redirect_addr=Address("", 80)) == ""
    assert look(monkeypatch, ("::", 8443, mine + 1), frontend_addr=AUTO).endswith("also listens on [::]:8443")


@pytest.mark.parametrize(
    ("answer", "reason"), [(b"hello, I am SMTP\r\n", "does not answer TLS"), (b"", "closed the connection during")]
)
def test_somebody_else_there(answer, reason, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve():
            with other.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        code = check.main({"frontend-addr": f"127.0.0.1:{other.getsockname()[1]}"})
        thread.join()

    assert code == 1
    assert reason in capsys.readouterr().err


def test_one_that_accepts_and_is_silent_is_given_up(monkeypatch, capsys):
    monkeypatch.setattr(check, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code = check.main({"frontend-addr": f"127.0.0.1:{silent.getsockname()[1]}"})

    assert code == 1
    assert "no answer in time" in capsys.readouterr().err


def test_bad_configuration_is_told_apart(capsys):
    assert check.main({"frontend-addr": "x"}) == 2
    assert capsys.readouterr().err.startswith("sslterm check: --frontend-addr='x': expected host:port")
