"""Somebody else's answer is had in time, or not at all; whatever comes, asking goes well."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import pytest

from byfahrer.serving import client
from byfahrer.serving.client import get


@contextmanager
def answering(path, answer, *, stay=False):
    """A server that says this to one client."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    done = threading.Event()

    def serve():
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(answer)
            if stay:
                done.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    done.set()
    thread.join()
    server.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


def test_json_comes_back(tmp_path):
    with answering(tmp_path / "s", OK % (9, b'{"a": 1}\n')):
        assert get(tmp_path / "s", "/status") == {"a": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        OK % (1, b"{"),
        OK % (99, b"{}"),
        OK % (20000, b"[" * 20000),
        b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_anything_else_is_nothing(tmp_path, answer):
    with answering(tmp_path / "s", answer):
        assert get(tmp_path / "s", "/status") is None


def test_who_says_nothing_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "PATIENCE", 0.05)
    with answering(tmp_path / "s", b"", stay=True):
        assert get(tmp_path / "s", "/status") is None


@pytest.mark.parametrize("name", ["nobody", "x" * 200, "a\0b"])
def test_where_nobody_is_there_is_nothing(tmp_path, name):
    assert get(tmp_path / name, "/status") is None
