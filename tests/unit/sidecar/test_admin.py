"""The admin socket's file, and its little HTTP; real processes are in behaviour/."""

from __future__ import annotations

import socket
import stat
import threading
from contextlib import contextmanager

import anyio
import anyio.from_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.admin import ask, converse
from sslterm import admin as module
from sslterm.admin import Admin, Page
from sslterm.settings import UnixAddress

PAGES = {"/a": lambda: Page(200, "text/plain", "ä\n")}


@contextmanager
def serving(path, pages=PAGES):
    """Serves in a thread of its own."""
    admin = Admin(UnixAddress(str(path)), pages)
    with anyio.from_thread.start_blocking_portal() as portal:
        task = portal.start_task_soon(admin.serve)
        try:
            yield admin
        finally:
            task.cancel()
    admin.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "admin.sock"


def test_a_page(path):
    with serving(path):
        assert ask(path, "/a") == (200, "ä\n")
        assert ask(path, "/b") == (404, "there are /a\n")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_anything_at_all_is_answered_or_let_go(path):
    with serving(path):

        @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
        @given(st.binary(max_size=300))
        def any_request(data):
            assert converse(path, data + b"\r\n\r\n").startswith(b"HTTP/1.1 ")

        any_request()
        assert ask(path, "/a")[0] == 200


def test_one_that_says_nothing_is_let_go(path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with serving(path):
        assert converse(path, b"GET /a HT") == b""


def test_no_more_than_some_at_a_time(path, monkeypatch):
    monkeypatch.setattr(module, "_AT_A_TIME", 2)
    held = threading.Event()
    calls = []

    def page():
        calls.append(1)
        return Page(200, "text/plain", "x")

    with serving(path, {"/a": page}):
        silent = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for each in silent:
            each.connect(str(path))
        waiting = threading.Thread(target=lambda: (ask(path, "/a"), held.set()))
        waiting.start()
        assert not held.wait(0.2)
        assert not calls
        for each in silent:
            each.close()
        assert held.wait(10)
        waiting.join()


def test_a_client_that_takes_nothing_costs_nobody_else_anything(path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    large = {"/a": lambda: Page(200, "text/plain", "x" * 10_000_000)}
    with serving(path, large), socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(path))
        lazy.sendall(b"GET /a HTTP/1.1\r\n\r\n")
        assert len(converse(path, b"GET /b HTTP/1.1\r\n\r\n")) > 10


def test_a_file_of_another_process_is_not_removed(path):
    with serving(path):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_live_one_is_replaced_only_when_it_is_to_be(path):
    address = UnixAddress(str(path))
    with serving(path):
        with pytest.raises(OSError, match="another process listens there"):
            Admin(address, PAGES)
        second = Admin(address, PAGES, take_over=True)
    assert path.exists(), "the first one leaves the second one's alone"
    second.close()
    assert list(path.parent.iterdir()) == []
