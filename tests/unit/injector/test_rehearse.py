"""A rehearsal says what would be done, why, and what stands in the way; who observes says it when it is new."""

from dataclasses import replace

import pytest
from loguru import logger

from byfahrer import settings
from byfahrer.reconcile.reconciler import Reconciler
from byfahrer.rehearse import rehearse
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}
CREATE = "create 'www-proxy' for 'www' from sslterm (:8081 -> 127.0.0.1:8080)"
CHANGES = {"pull", "create", "start", "restart", "kill", "stop", "remove", "rename", "put_files"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def engine():
    return MemoryEngine()


@pytest.fixture
def lines():
    said = []
    handler = logger.add(lambda message: said.append(message.record["message"]), level="INFO", format="{message}")
    yield said
    logger.remove(handler)


async def lines_of(engine, **policy):
    before = dict(engine.all)
    calls = {name: engine.calls[name] for name in CHANGES}
    found = [line for each in await rehearse(engine, settings.policy(**policy)) for line in each.lines]
    assert engine.all == before
    assert {name: engine.calls[name] for name in CHANGES} == calls
    return found


async def serve(engine, key, **policy):
    await Reconciler(engine, settings.policy(**policy)).reconcile(key)


async def test_each_action_and_its_reason(engine):
    key = engine.run("www", ASKS)
    assert await lines_of(engine) == [f"{CREATE}: it asks for it and has none"]
    await serve(engine, key)
    assert await lines_of(engine) == []
    (sidecar,) = engine.sidecars(key)
    engine.down(sidecar.id)
    assert await lines_of(engine) == ["start 'www-proxy': it is exited"]
    engine.up(sidecar.id)
    engine.bounce(key)
    assert await lines_of(engine) == ["restart 'www-proxy': its target has restarted"]
    engine.down(key)
    assert await lines_of(engine) == ["remove 'www-proxy': its target does not run"]
    engine.delete(key)
    assert await lines_of(engine) == ["remove 'www-proxy': its target is gone"]


async def test_what_would_be_replaced_and_why(engine):
    key = engine.run("www", ASKS)
    await serve(engine, key)
    create = CREATE.replace("-proxy'", "-proxy-next'") + ", and remove 'www-proxy' once it serves: "
    assert await lines_of(engine, sidecar_memory="64m") == [f"{create}what is asked for has changed"]
    engine.images["sslterm"] = "sha256:other"
    assert await lines_of(engine) == [f"{create}its image has been updated"]
    # Root's port is shared with nobody.
    first, second = await lines_of(engine, sidecar_user="0:0")
    assert first == "remove 'www-proxy': what is asked for has changed"
    assert second == f"{CREATE}: in the place of that one"


async def test_images_that_are_missing_are_pulled_or_a_problem(engine):
    engine.run("www", ASKS)
    engine.images.clear()
    missing = "problem: image 'sslterm' is not on this engine: build or pull it (docker pull sslterm)"

    assert (await lines_of(engine))[0] == "pull image sslterm"
    assert (await lines_of(engine, pull="never"))[1] == missing
    engine.images["sslterm"] = "sha256:sslterm"
    assert (await lines_of(engine, pull="always"))[0] == "pull image sslterm"
    assert len(await lines_of(engine)) == 1


async def test_what_cannot_be_done_is_a_problem_and_stays_one_line(engine):
    engine.run("bad", ASKS | {"byfahrer.mode": "x\ny"})
    engine.run("plain")

    assert await lines_of(engine) == [r"problem: 'bad': byfahrer.mode='x\ny': expected http or tcp"]


async def test_who_observes_says_each_change_once_and_changes_nothing(engine, lines):
    key = engine.run("www", ASKS)
    watching = Reconciler(engine, settings.policy(), act=False)
    for _ in range(3):
        assert await watching.reconcile(key) is None
    assert lines == [f"Would {CREATE}: it asks for it and has none"]
    assert not engine.calls.keys() & CHANGES

    await serve(engine, key)
    await watching.reconcile(key)
    (sidecar,) = engine.sidecars(key)
    engine.all[sidecar.id] = replace(sidecar, status="exited", pid=0)
    for _ in range(2):
        await watching.reconcile(key)
    engine.delete(key)
    for _ in range(2):
        await watching.reconcile(key)

    assert [line for line in lines if line.startswith("Would")][1:] == [
        "Would start 'www-proxy': it is exited",
        "Would remove 'www-proxy': its target is gone",
    ]
