"""The whole injector on an engine in memory, until a signal."""

import os
import signal
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from loguru import logger

from byfahrer import daemon, settings
from byfahrer.authority import heartbeat, service
from byfahrer.authority.errors import StateError
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import Bearer, Tokens
from byfahrer.engine.errors import UnreachableError
from byfahrer.model import Mount
from byfahrer.serving.client import get
from lab.memory_engine import MemoryEngine
from lab.waiting import until

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def lines():
    """What it says, from INFO on."""
    said: list[str] = []
    handler = logger.add(lambda text: said.append(str(text).rstrip()), level="INFO", format="{message}")
    yield said
    logger.remove(handler)


@pytest.fixture
def folder():
    """With a name that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="byf-") as made:
        yield Path(made)


def wanted(folder=None, *, admin=None, **policy):
    authority = None
    if folder:
        authority = settings.authority(run_dir=str(folder / "run"), state_dir=str(folder / "state"))
    return settings.Settings(policy=settings.policy(**policy), resync=30, authority=authority, admin=admin)


@asynccontextmanager
async def running(engine, chosen, lines):
    """A daemon that looks after this engine; ended as the last thing."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.run, engine, chosen)
        await until(lambda: any(line.startswith("Connected to 'memory' / v'1'") for line in lines))
        yield
        tasks.cancel_scope.cancel()


def local():
    engine = MemoryEngine()
    engine.where = "unix:///var/run/docker.sock"
    return engine


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal_and_leaves_sidecars_running(number, lines):
    engine = MemoryEngine()
    key = engine.run("www", ASKS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.run, engine, wanted())
        await until(lambda: any(line.startswith("Connected to 'memory' / v'1'") for line in lines))
        assert engine.served(key)
        os.kill(os.getpid(), number)

    assert engine.served(key)
    assert engine.streams == []
    assert lines[-1].startswith("Stopped; every proxy container is left running")


async def test_a_sidecar_gets_a_token_and_the_socket_that_takes_it(folder, lines):
    engine = local()
    key = engine.run("www", ASKS)
    async with running(engine, wanted(folder), lines):
        (sidecar,) = engine.sidecars(key)
        token = engine.files[sidecar.id, "/run/sslterm/token"].content.decode()
        async with await anyio.connect_unix(str(folder / "run" / "authority.sock")) as stream:
            await stream.send(
                f"GET /v1/authorities HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            )
            answer = await stream.receive()

    assert answer.startswith(b"HTTP/1.1 200")
    assert Tokens.load(StateFolder(folder / "state")).read(token) == Bearer(key, sidecar.id)
    assert sidecar.mounts[0] == Mount(kind="bind", source=str(folder / "run"), destination="/run/byfahrer")
    assert not (folder / "run" / "authority.sock").exists()


async def test_of_two_one_serves_the_socket_and_the_other_takes_over(folder, lines, monkeypatch):
    monkeypatch.setattr(daemon, "TAKE_OVER", 0.01)
    path = folder / "run" / "authority.sock"
    async with anyio.create_task_group() as second:
        async with anyio.create_task_group() as first:
            first.start_soon(daemon.run, local(), wanted(folder))
            await until(path.exists)
            inode = path.stat().st_ino
            second.start_soon(daemon.run, local(), wanted(folder))
            await until(lambda: any("another byfahrer serves there; waiting until it ends" in line for line in lines))
            assert path.stat().st_ino == inode
            first.cancel_scope.cancel()
        await until(path.exists)
        second.cancel_scope.cancel()

    assert len([line for line in lines if "another byfahrer" in line]) == 1


async def test_a_state_that_cannot_be_used_ends_it_before_it_does_anything(folder):
    (folder / "state").mkdir(0o700)
    (folder / "state" / "ca.json").write_text("{")
    (folder / "state" / "ca.json").chmod(0o600)
    engine = local()
    with pytest.raises(StateError, match=r"ca.json: it is damaged"):
        await daemon.run(engine, wanted(folder))

    assert not engine.calls


async def test_where_sidecars_cannot_have_the_socket_they_sign_for_themselves(folder, lines):
    engine = MemoryEngine()
    key = engine.run("www", ASKS)
    async with running(engine, wanted(folder), lines):
        assert engine.served(key)
        assert engine.sidecars(key)[0].mounts == ()

    (said,) = [line for line in lines if line.startswith("Sidecars sign their certificates themselves: ")]
    assert said.endswith(f"the engine at memory may be on another machine, which has not our {folder}/run")


async def test_in_a_container_the_engine_is_asked_and_waited_for(folder, lines, monkeypatch):
    monkeypatch.setattr(daemon, "delay", lambda *args, **options: 0.01)
    engine = MemoryEngine()
    mounts = [
        Mount(kind="volume", source="byfahrer-run", destination=str(folder / "run"), writable=True),
        Mount(kind="volume", source="a" * 64, destination=str(folder / "state"), writable=True),
    ]
    own = engine.run("byfahrer", mounts=tuple(mounts))
    engine.broken["connect"] = [UnreachableError("no engine at memory")] * 3
    key = engine.run("www", ASKS)
    async with running(engine, wanted(folder, own_id=own), lines):
        assert engine.sidecars(key)[0].mounts[0] == Mount(
            kind="volume", source="byfahrer-run", destination="/run/byfahrer"
        )

    assert lines.count("No engine at memory; trying again") == 1
    assert len([line for line in lines if "root ends with this container: give it a volume" in line]) == 1
    assert not [line for line in lines if line.startswith("Every sidecar is replaced")]


async def test_a_run_folder_that_ends_with_the_container_is_told(folder, lines):
    engine = MemoryEngine()
    mounts = [
        Mount(kind="volume", source="a" * 64, destination=str(folder / "run"), writable=True),
        Mount(kind="volume", source="byfahrer", destination=str(folder / "state"), writable=True),
    ]
    own = engine.run("byfahrer", mounts=tuple(mounts))
    async with running(engine, wanted(folder, own_id=own), lines):
        pass

    assert [line for line in lines if "give it a volume" in line] == [
        f"Every sidecar is replaced when byfahrer is made anew: give it a volume (-v byfahrer-run:{folder}/run)"
    ]


async def test_what_it_knows_is_told_on_a_socket_of_its_own(folder, lines):
    engine = local()
    key = engine.run("www", ASKS)
    engine.run("bad", ASKS, network_mode="host")
    path = folder / "state" / "admin.sock"
    async with running(engine, wanted(folder, admin=path), lines):
        await until(lambda: any(line.startswith("Connected to") for line in lines))
        told = await anyio.to_thread.run_sync(get, path, "/status")
    states = {each["name"]: each["state"] for each in told["targets"]}

    assert states == {"www": "serving", "bad": "refused"}
    assert told["engine"]["name"] == "memory"
    assert told["ready"] is True
    assert told["queue"] == 0
    assert {"action": "inject", "result": "ok", "count": 1} in told["actions"]
    assert engine.served(key)
    assert not path.exists()


async def test_a_sidecar_that_reports_no_longer_is_restarted(folder, lines, monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.02)
    monkeypatch.setattr(heartbeat, "STALLED", 60.0)
    monkeypatch.setattr(service, "AGAIN", 0.02)
    engine = local()
    key = engine.run("www", ASKS)
    async with running(engine, wanted(folder), lines):
        (sidecar,) = engine.sidecars(key)
        token = engine.files[sidecar.id, "/run/sslterm/token"].content.decode()
        word = b'{"source": "authority", "ready": true}'
        async with await anyio.connect_unix(str(folder / "run" / "authority.sock")) as stream:
            await stream.send(
                f"POST /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Length: {len(word)}\r\n\r\n".encode()
                + word
            )
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        await until(lambda: engine.sidecars(key)[0].started_at > sidecar.started_at)
        await until(lambda: engine.served(key))
        (after,) = engine.sidecars(key)

    assert after.id == sidecar.id
    assert after.started_at > sidecar.started_at
    assert engine.calls["restart"] == 1


async def test_who_only_watches_changes_nothing_signs_nothing_and_knows_what_the_other_one_would_do(folder, lines):
    engine = local()
    key = engine.run("www", ASKS)
    chosen = replace(wanted(folder), act=False)
    async with running(engine, chosen, lines):
        await until(lambda: any(line.startswith("Would create 'www-proxy'") for line in lines))
        engine.signalled(key)
        engine.down(key)
        engine.up(key)
        await until(lambda: engine.calls["inspect"] > 1)

    assert engine.sidecars(key) == []
    changes = {"pull", "create", "start", "restart", "kill", "stop", "remove", "rename", "put_files"}
    assert not engine.calls.keys() & changes
    assert not (folder / "run").exists()
    assert not (folder / "state" / "ca.json").exists()


async def test_who_only_watches_agrees_with_who_acts(folder, lines):
    engine = local()
    key = engine.run("www", ASKS)
    async with running(engine, wanted(folder), lines):
        assert engine.served(key)
    lines.clear()
    async with running(engine, replace(wanted(folder), act=False), lines):
        pass

    assert not [line for line in lines if line.startswith("Would")]
