"""Images come once for all who wait for them, as the operator's policy says; what cannot be had is told and waits."""

from __future__ import annotations

import anyio
import pytest
from loguru import logger

from byfahrer.engine.errors import PullError, UnreachableError
from byfahrer.plan import Pull
from byfahrer.reconcile import images
from byfahrer.reconcile.images import Had, Images
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def said():
    lines: list[str] = []
    handler = logger.add(lambda text: lines.append(str(text).rstrip()), level="INFO", format="{message}")
    yield lines
    logger.remove(handler)


class Shop:
    """An engine with a registry behind it, and a clock that only tests move."""

    def __init__(self, policy=Pull.MISSING, *, here=(), there=("a",)):
        self.now = 0.0
        self.engine = MemoryEngine(here)
        self.engine.registry = {name: f"sha256:{name}" for name in there}
        self.images = Images(self.engine, policy, clock=lambda: self.now)

    @property
    def pulls(self):
        return self.engine.calls["pull"]

    async def fails(self, name="a"):
        with pytest.raises(PullError) as caught:
            await self.images.provide(name)
        return str(caught.value)


async def test_what_is_there_is_not_pulled():
    shop = Shop(here=("a",))

    assert await shop.images.provide("a") is Had.HERE
    assert shop.pulls == 0


async def test_many_that_start_together_ask_the_engine_once_whether_it_is_there():
    shop = Shop(here=("a",))
    for _ in range(50):
        await shop.images.provide("a")
    assert shop.engine.calls["image_id"] == 1
    shop.now += images.LOOK
    shop.engine.images.clear()

    assert await shop.images.provide("a") is Had.CAME


async def test_what_is_missing_is_pulled_and_both_is_said(said):
    shop = Shop()

    assert await shop.images.provide("a") is Had.CAME
    assert await shop.images.provide("a") is Had.HERE
    assert shop.pulls == 1
    assert said == ["Pull image a", "Pulled image a in 0.0 s"]


async def test_never_is_never():
    shop = Shop(Pull.NEVER)

    assert await shop.fails() == "image 'a' is not on this engine: build or pull it (docker pull a)"
    assert shop.pulls == 0


async def test_always_asks_the_registry_though_the_image_is_there_but_not_for_each_of_many():
    shop = Shop(Pull.ALWAYS, here=("a",))

    assert await shop.images.provide("a") is Had.CAME
    assert await shop.images.provide("a") is Had.HERE
    shop.now += images.FRESH + 1
    assert await shop.images.provide("a") is Had.CAME
    assert shop.pulls == 2


async def test_always_makes_no_sidecar_of_an_image_that_may_be_old():
    shop = Shop(Pull.ALWAYS, here=("a",), there=())

    assert await shop.fails() == "image 'a' cannot be pulled: pull access denied for a"


class Beside:
    """A shop whose images are pulled beside whoever asks; `ended` has those that were, or could not be."""

    def __init__(self, shop):
        self.shop = shop
        self.ended = []
        self.one_has = anyio.Event()
        self.gate = anyio.Event()
        real = shop.engine.pull

        async def slow(name):
            await self.gate.wait()
            await real(name)

        shop.engine.pull = slow

    async def __aenter__(self):
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        self.shop.images.pull_in(self.tasks, self.end)
        return self

    def end(self, name):
        self.ended.append(name)
        self.one_has.set()

    async def __aexit__(self, *args):
        self.tasks.cancel_scope.cancel()
        return await self.tasks.__aexit__(*args)

    async def has_ended(self):
        self.gate.set()
        with anyio.fail_after(10):
            await self.one_has.wait()


async def test_many_that_want_the_same_pull_it_once_and_none_waits_for_it():
    shop = Shop()
    async with Beside(shop) as beside:
        had = [await shop.images.provide("a") for _ in range(50)]
        await beside.has_ended()

        assert had == [Had.COMING] * 50
        assert await shop.images.provide("a") is Had.HERE
    assert shop.pulls == 1
    assert beside.ended == ["a"]


async def test_who_asks_after_a_pull_that_failed_is_told_why():
    shop = Shop(there=())
    async with Beside(shop) as beside:
        assert await shop.images.provide("a") is Had.COMING
        await beside.has_ended()

        assert "pull access denied for a" in await shop.fails()
        shop.now += 60
        assert await shop.images.provide("a") is Had.COMING


@pytest.mark.parametrize("error", [UnreachableError("gone"), ValueError("a bug")])
async def test_a_pull_that_breaks_off_is_done_again_and_ends_nothing_else(error, monkeypatch):
    monkeypatch.setattr(images, "FIRST", 0.01)
    monkeypatch.setattr(images, "CAP", 0.01)
    shop = Shop()
    shop.engine.broken["pull"] = [error]
    async with Beside(shop) as beside:
        assert await shop.images.provide("a") is Had.COMING
        await beside.has_ended()
        assert await shop.images.provide("a") is Had.COMING


async def test_what_cannot_be_had_is_tried_ever_less_often_however_many_ask(said):
    shop = Shop(there=())
    for _ in range(600):
        text = await shop.fails()
        shop.now += 1

    assert text == "image 'a' is not on this engine, and cannot be pulled: pull access denied for a"
    assert 10 <= shop.pulls <= 20  # doubled each time, up to a minute
    assert said == ["Pull image a"]


async def test_it_is_used_as_soon_as_it_is_there_by_whatever_way():
    shop = Shop(there=())
    await shop.fails()
    shop.engine.images["a"] = "sha256:built"

    assert await shop.images.provide("a") is Had.HERE


async def test_after_a_success_the_next_failure_is_the_first_again():
    shop = Shop(Pull.ALWAYS, there=())
    for _ in range(20):
        await shop.fails()
        shop.now += 60
    shop.engine.registry["a"] = "sha256:a"
    assert await shop.images.provide("a") is Had.CAME
    shop.engine.registry.clear()
    shop.now += images.FRESH + 1
    await shop.fails()
    pulls = shop.pulls
    shop.now += 1
    await shop.fails()

    assert shop.pulls == pulls + 1


async def test_the_same_reason_with_other_numbers_is_no_news():
    shop = Shop()
    shop.engine.broken["pull"] = [PullError(f"read udp 10.0.0.1:{port}->10.0.0.2:53: i/o timeout") for port in (1, 22)]
    first = await shop.fails()
    shop.now += 60
    second = await shop.fails()
    shop.engine.broken["pull"] = [PullError("unauthorized")]
    shop.now += 60

    assert first == second
    assert (await shop.fails()).endswith("cannot be pulled: unauthorized")


async def test_an_engine_that_is_away_says_nothing_of_an_image():
    shop = Shop()
    shop.engine.broken["pull"] = [UnreachableError("gone")]
    with pytest.raises(UnreachableError):
        await shop.images.provide("a")

    assert await shop.images.provide("a") is Had.CAME


async def test_not_every_image_that_labels_name_is_remembered():
    shop = Shop(there=())
    for number in range(images.KNOWN + 50):
        await shop.fails(f"a{number}")

    assert len(shop.images._known) == images.KNOWN
