"""Plain HTTP is answered with where HTTPS is, for any request, and whatever comes there costs the relay nothing."""

from __future__ import annotations

import re
import signal
import socket

import pytest

from lab.sidecar import PATIENCE, free_port, get, hello_backend, refused, sidecar


@pytest.fixture
def plain():
    return free_port()


@pytest.fixture
def running(port, plain):
    """A sidecar that redirects from `plain` to `port`."""
    with (
        hello_backend() as backend,
        sidecar(
            f"--frontend-addr=127.0.0.1:{port}",
            f"--backend-addr=127.0.0.1:{backend}",
            f"--redirect-addr=127.0.0.1:{plain}",
        ) as started,
    ):
        yield started


def ask(port: int, request: bytes) -> str:
    """What comes back for `request`, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode("latin-1")


def where(response: str) -> str | None:
    found = re.search(r"^Location: (.*)\r$", response, re.MULTILINE)
    return found and found[1]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PROPFIND"])
@pytest.mark.parametrize("host", ["site.example", "SITE.example:8080", "127.0.0.1", "[::1]:80", "a_b.example", "x:"])
def test_to_the_host_and_path_that_were_asked_for(running, port, plain, method, host):
    response = ask(plain, f"{method} /a/b?c=d&e HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    name = re.sub(r":\d*$", "", host)

    assert response.startswith("HTTP/1.1 308 Permanent Redirect\r\n")
    assert where(response) == f"https://{name}:{port}/a/b?c=d&e"
    assert response.partition("\r\n\r\n")[2] == ("" if method == "HEAD" else f"https://{name}:{port}/a/b?c=d&e\n")


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example/\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example#\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a%0d%0aX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: :80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: -a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_nothing_is_made_of_what_is_no_sound_request(running, plain, head):
    response = ask(plain, head.encode("latin-1"))

    assert response.startswith("HTTP/1.1 400 ")
    assert where(response) is None


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("//evil.example/x", "//evil.example/x"),
        ("/\\evil.example", "/\\evil.example"),
        ("/caf\xe9", "/caf%E9"),
        ("/%0d%0aSet-Cookie:%20a=b", "/%0d%0aSet-Cookie:%20a=b"),
        ("http://asked.example/x", "/x"),
        ("http://asked.example:80?x", "/?x"),
    ],
)
def test_nobody_is_sent_to_a_host_that_was_not_asked_for(running, port, plain, target, path):
    response = ask(plain, f"GET {target} HTTP/1.1\r\nHost: asked.example\r\n\r\n".encode("latin-1"))

    assert where(response) == f"https://asked.example:{port}{path}"
    assert response.count("\r\n\r\n") == 1


def test_a_challenge_that_is_not_pending_is_not_found(running, plain):
    for path in ("/.well-known/acme-challenge/token", "/.well-known/acme-challenge/"):
        response = ask(plain, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

        assert response.startswith("HTTP/1.1 404 Not Found\r\n")
        assert where(response) is None


def test_a_head_without_end_is_refused(running, plain):
    response = ask(plain, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 8300)

    assert response.startswith("HTTP/1.1 431 ")


def test_a_body_is_not_waited_for_and_does_not_lose_the_answer(running, port, plain):
    request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 40000

    assert where(ask(plain, request)) == f"https://a:{port}/x"


def test_hundreds_who_say_nothing_keep_nobody_out(running, port, plain):
    held = [socket.create_connection(("127.0.0.1", plain), timeout=PATIENCE) for _ in range(200)]
    try:
        assert where(ask(plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == f"https://a:{port}/"
        assert get(port) == "hello\n"
        assert held[0].recv(1) == b""  # the oldest had to go
    finally:
        for each in held:
            each.close()
    assert where(ask(plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == f"https://a:{port}/"


def test_whoever_is_slow_is_left_after_a_while(running, plain):
    with socket.create_connection(("127.0.0.1", plain), timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a")
        assert connection.recv(1) == b""


def test_the_end_closes_it(running, plain):
    running.signal(signal.SIGTERM)

    assert running.ended() == 0
    with pytest.raises(ConnectionRefusedError):
        ask(plain, b"")


def test_an_address_that_cannot_be_had_is_one_clear_line(port, plain):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", plain))
        taken.listen()
        result = refused(f"--frontend-addr=127.0.0.1:{port}", f"--redirect-addr=127.0.0.1:{plain}")

    assert result.returncode == 1
    assert f"redirect-addr=127.0.0.1:{plain}: already in use in this network namespace" in result.stderr

    result = refused("--frontend-addr=:8443", "--redirect-addr=:8443")

    assert result.returncode == 2
    assert "redirect-addr=':8443': expected another port than frontend-addr=:8443" in result.stderr
