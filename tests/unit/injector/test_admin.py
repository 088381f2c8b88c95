"""The daemon's socket: for its user only, one daemon at a time, and no reason not to serve."""

from __future__ import annotations

import stat
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from loguru import logger

from byfahrer import admin
from byfahrer.serving.client import get
from lab.overview import overview, target
from lab.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def lines():
    said: list[str] = []
    handler = logger.add(lambda text: said.append(str(text).rstrip()), level="INFO", format="{message}")
    yield said
    logger.remove(handler)


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="byf-") as made:
        yield Path(made, "state", "admin.sock")


@asynccontextmanager
async def serving(path, made):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(admin.run, made, path)
        await until(path.exists)
        yield
        tasks.cancel_scope.cancel()


async def talk(path, target, method="GET"):
    """Status, type and body of an answer."""
    async with await anyio.connect_unix(str(path)) as stream:
        await stream.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = b""
        with anyio.fail_after(5):
            try:
                while True:
                    received += await stream.receive()
            except anyio.EndOfStream:
                pass
    head, _, body = received.decode().partition("\r\n\r\n")
    (kind,) = [line for line in head.split("\r\n") if line.startswith("Content-Type: ")]
    return int(head.split()[1]), kind.removeprefix("Content-Type: "), body


async def test_it_answers_who_may_open_it(path):
    async with serving(path, overview(target(1))):
        told = await anyio.to_thread.run_sync(get, path, "/status")
        assert [each["name"] for each in told["targets"]] == ["n1"]
        code, kind, text = await talk(path, "/metrics?x=y")
        assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "\nbyfahrer_engine_up 1\n" in text
        assert (await talk(path, "/metrics", "HEAD"))[::2] == (200, "")
        assert (await talk(path, "/ready"))[::2] == (200, "ready\n")
        assert (await talk(path, "/"))[::2] == (404, '{"error": "there are /status, /metrics, /ready"}\n')
        assert (await talk(path, "/status", "DELETE"))[::2] == (405, '{"error": "expected GET"}\n')
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


async def test_it_is_not_ready_without_its_engine(path):
    made = overview()
    made.watch.connected = False
    async with serving(path, made):
        assert (await talk(path, "/ready"))[::2] == (503, "the engine at unix:///x is not connected\n")
        assert await anyio.to_thread.run_sync(get, path, "/ready") is None


async def test_what_is_no_request_ends_nothing(path, lines):
    async with serving(path, overview()):
        async with await anyio.connect_unix(str(path)) as stream:
            await stream.send(b"\0\0\r\n\r\n")
            assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")
        assert (await talk(path, "/ready"))[0] == 200
    assert lines == []


async def test_of_two_the_second_says_so_once_and_takes_over(path, lines, monkeypatch):
    monkeypatch.setattr(admin, "LOOK_AGAIN", 0.01)
    async with anyio.create_task_group() as second:
        async with serving(path, overview(target(1))):
            second.start_soon(admin.run, overview(target(2)), path)
            await until(lambda: lines)
            assert (await anyio.to_thread.run_sync(get, path, "/status"))["targets"][0]["name"] == "n1"
        await until(path.exists)
        assert (await anyio.to_thread.run_sync(get, path, "/status"))["targets"][0]["name"] == "n2"
        second.cancel_scope.cancel()

    assert lines == [f"No status and metrics: {path}: another byfahrer serves there; waiting until it ends"]


async def test_where_it_cannot_be_bound_that_is_told_and_all(path, lines):
    path.parent.parent.joinpath("state").write_text("a file")
    await admin.run(overview(), path)

    assert len(lines) == 1
    assert lines[0].startswith(f"No status and metrics (--admin-addr): {path}: the socket: ")
