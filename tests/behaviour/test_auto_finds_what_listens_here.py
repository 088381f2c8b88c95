"""`auto`: the backend is the one listener of the namespace, the frontend a port that is free."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import pytest

from lab.namespace import namespace
from lab.sidecar import SERVING, refused, sidecar
from sslterm.settings import SIDECAR_UID

LISTEN = """
import socket, sys
sockets = []
for host, port in (each.rsplit(":", 1) for each in sys.argv[1:]):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockets.append(socket.create_server((host, int(port)), family=family, dualstack_ipv6=host == "::"))
print("listening", flush=True)
while True:
    connection = sockets[0].accept()[0]
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\nConnection: close\\r\\n\\r\\nhello\\n")
    connection.close()
"""

FETCH = """
import ssl, sys, urllib.request
context = ssl._create_unverified_context()
print(urllib.request.urlopen(sys.argv[1], context=context, timeout=30).read().decode(), end="")
"""


@pytest.fixture
def private():
    with namespace() as made:
        yield made


@contextmanager
def running_until(command, sign):
    """A process, from the line with `sign` in it until the end of the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            while sign not in process.stdout.readline():
                assert process.poll() is None
            yield
        finally:
            process.kill()


def target(private, *addresses):
    """A process in the namespace that listens on `addresses` and says hello on the first."""
    return running_until([*private.enter, sys.executable, "-c", LISTEN, *addresses], b"listening")


def fetch(private, url):
    return private.run(sys.executable, "-c", FETCH, url)


@pytest.mark.parametrize("address", ["0.0.0.0:8080", ":::8080", "127.0.0.1:3000", "::1:3000", "127.0.0.2:3000"])
def test_the_one_listener_is_the_backend(private, address):
    with (
        target(private, address),
        sidecar("--backend-addr=auto", "--frontend-addr=auto", before=private.enter) as running,
    ):
        assert running.said(SERVING + "':443' for ")
        assert not running.said("waiting")
        assert fetch(private, "https://127.0.0.1/") == "hello\n"


def test_a_target_that_starts_later_is_waited_for(private):
    with (
        sidecar("--backend-addr=auto", "--frontend-addr=:8443", before=private.enter, ready="waiting") as running,
        target(private, "127.0.0.1:8080"),
    ):
        running.wait_for(SERVING + r"':8443' for 127.0.0.1:8080")

        assert fetch(private, "https://127.0.0.1:8443/") == "hello\n"


def test_several_listeners_are_an_error_that_lists_them(private):
    with target(private, "0.0.0.0:8080", "127.0.0.1:9090", "::1:9091"):
        result = refused("--backend-addr=auto", "--frontend-addr=:8443", before=private.enter)

    assert result.returncode == 2
    assert result.stderr.endswith(
        "ERROR backend-addr=auto: several listeners here, "
        "set backend-addr to one of 127.0.0.1:8080, 127.0.0.1:9090, [::1]:9091\n"
    )


def test_another_sidecar_the_engines_name_server_and_our_own_port_are_no_backend(private):
    other_user = [*private.enter, "setpriv", f"--reuid={SIDECAR_UID}", "--clear-groups"]
    other = [*other_user, "/usr/bin/openssl", "s_server", "-accept", "9443", "-nocert"]
    with (
        target(private, "127.0.0.1:8080", "127.0.0.11:40001"),
        running_until(other, b"ACCEPT"),
        sidecar("--backend-addr=auto", "--frontend-addr=auto", before=private.enter) as running,
    ):
        assert running.said(SERVING + "':443' for 127.0.0.1:8080 ")


def test_8443_where_443_is_taken(private):
    with (
        target(private, "0.0.0.0:443"),
        sidecar("--backend-addr=auto", "--frontend-addr=auto", before=private.enter) as running,
    ):
        assert running.said(SERVING + "':8443' for 127.0.0.1:443 ")
        assert fetch(private, "https://127.0.0.1:8443/") == "hello\n"


def test_8443_where_443_is_not_permitted(private):
    plain = [*private.enter, "setpriv", "--bounding-set=-net_bind_service"]
    with (
        target(private, "127.0.0.1:8080"),
        sidecar("--backend-addr=auto", "--frontend-addr=auto", before=plain) as running,
    ):
        assert running.said(SERVING + "':8443' for 127.0.0.1:8080 ")


def test_an_error_that_names_both_where_neither_is_free(private):
    with target(private, "0.0.0.0:443", "0.0.0.0:8443"):
        result = refused("--backend-addr=127.0.0.1:1", "--frontend-addr=auto", before=private.enter)

    assert result.returncode == 1
    assert "frontend-addr=auto: :443 already in use in this network namespace, :8443 already in use" in result.stderr
