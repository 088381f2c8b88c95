"""Whatever happens to events, everything is looked at in the end."""

import anyio
import pytest
from loguru import logger

from byfahrer import settings
from byfahrer.engine.errors import RejectedError
from byfahrer.engine.interface import Event, Gap
from byfahrer.reconcile.queue import KeyedQueue
from byfahrer.reconcile.reconciler import Reconciler
from byfahrer.reconcile.watch import DIE_WAIT, Watch
from lab.memory_engine import MemoryEngine
from lab.waiting import until

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}
NEVER = 3600.0


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def reconnect_at_once(monkeypatch):
    monkeypatch.setattr("byfahrer.reconcile.watch.delay", lambda *args, **options: 0.01)


class Daemon:
    """Watch, queue and reconciler on an engine in memory."""

    def __init__(self, resync=NEVER, ping=NEVER):
        self.engine = MemoryEngine()
        self.ready = 0
        reconciler = Reconciler(self.engine, settings.policy())
        self.queue = KeyedQueue(reconciler.reconcile, reconciler.failed)
        self.watch = Watch(
            self.engine, self.queue, reconciler.tracks,
            on_ready=self.on_ready, resync_interval=resync, ping_interval=ping,
        )  # fmt: skip

    async def on_ready(self, info, found):
        await self.queue.handled(found)
        self.ready += 1

    async def __aenter__(self):
        self.tasks = anyio.create_task_group()
        await self.tasks.__aenter__()
        self.tasks.start_soon(self.queue.run)
        self.tasks.start_soon(self.watch.run)
        return self

    async def __aexit__(self, *args):
        self.tasks.cancel_scope.cancel()
        return await self.tasks.__aexit__(*args)

    async def is_ready(self, times=1):
        await until(lambda: self.ready == times)


async def test_who_runs_already_is_served_before_it_says_it_is_ready():
    daemon = Daemon()
    key = daemon.engine.run("www", ASKS)
    async with daemon:
        await daemon.is_ready()

        assert daemon.engine.served(key)


async def test_a_start_is_served_and_a_death_reaped():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        daemon.engine.delete(key)
        await until(lambda: not daemon.engine.all)


async def test_a_restart_keeps_the_sidecar():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        (before,) = daemon.engine.sidecars(key)
        daemon.engine.bounce(key)
        await until(lambda: daemon.engine.served(key))

        assert daemon.engine.sidecars(key)[0].id == before.id


async def test_a_crashed_sidecar_comes_back():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        daemon.engine.down(daemon.engine.sidecars(key)[0].id, code=137)
        await until(lambda: daemon.engine.served(key))


async def test_who_does_not_concern_us_costs_no_call():
    async with Daemon() as daemon:
        await daemon.is_ready()
        before = sum(daemon.engine.calls.values())
        key = daemon.engine.run("plain", {"com.example": "x"})
        daemon.engine.delete(key)
        other = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(other))

        assert daemon.engine.calls["create"] == 1
        assert sum(daemon.engine.calls.values()) - before <= 9


async def test_lost_events_are_made_good_by_the_resync():
    async with Daemon(resync=0.02) as daemon:
        await daemon.is_ready()
        daemon.engine.deaf = True
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        daemon.engine.delete(key)
        await until(lambda: not daemon.engine.all)


async def test_a_stream_that_ends_is_opened_again_and_everything_looked_at():
    async with Daemon() as daemon:
        await daemon.is_ready()
        daemon.engine.deaf = True
        key = daemon.engine.run("www", ASKS)
        daemon.engine.deaf = False
        daemon.engine.streams[0].close()
        await until(lambda: daemon.engine.served(key))
        other = daemon.engine.run("more", ASKS)
        await until(lambda: daemon.engine.served(other))


async def test_a_stream_that_hangs_is_closed_by_the_ping():
    async with Daemon(ping=0.02) as daemon:
        await daemon.is_ready()
        daemon.engine.deaf = True
        daemon.engine.pings_fail = True
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))


async def test_an_engine_that_is_away_is_waited_for_and_told_of_once():
    lines: list[str] = []
    handler = logger.add(lambda text: lines.append(str(text).rstrip()), level="INFO", format="{message}")
    daemon = Daemon()
    daemon.engine.away = True
    key = daemon.engine.run("www", ASKS)
    async with daemon:
        await until(lambda: daemon.engine.calls["connect"] >= 5)
        daemon.engine.away = False
        await daemon.is_ready()
        assert daemon.engine.served(key)
        daemon.engine.away = True
        daemon.engine.streams[0].close()
        await until(lambda: daemon.engine.calls["connect"] >= 10)
        daemon.engine.away = False
        await daemon.is_ready(2)
    logger.remove(handler)

    assert lines.count("No engine at memory; trying again") == 2
    assert lines.count("The event stream of the engine at memory ended; trying again") == 1


async def test_an_engine_whose_list_fails_is_asked_again():
    daemon = Daemon()
    daemon.engine.broken["containers"] = [RejectedError(500, "x")]
    key = daemon.engine.run("www", ASKS)
    async with daemon:
        await until(lambda: daemon.engine.served(key))


async def test_a_gap_means_looking_at_everything():
    async with Daemon() as daemon:
        await daemon.is_ready()
        daemon.engine.deaf = True
        key = daemon.engine.run("www", ASKS)
        stream = daemon.engine.streams[0]
        stream.waiting.append(Gap.GAP)
        stream.changed.set()
        await until(lambda: daemon.engine.served(key))


async def test_an_update_of_a_service_is_a_look_at_its_tasks():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
        daemon.engine.services["svc"] = dict(ASKS)
        stream = daemon.engine.streams[0]
        stream.waiting.append(Event(kind="service", action="update", id="svc"))
        stream.changed.set()
        await until(lambda: daemon.engine.served(key))


async def test_a_target_that_joins_a_network_is_looked_at_and_others_are_not():
    """After a moment: networks go and come with a restart too, and its sidecar is to be kept."""
    put = []

    class Queue:
        def put(self, key, wait=0.0, *, urgent=True):
            put.append((key, wait, urgent))

    watch = Watch(MemoryEngine(), Queue(), lambda key: key == "a", on_ready=None)
    for key in ("a", "b"):
        await watch._take(Event(kind="network", action="connect", id=key))

    assert put == [("a", DIE_WAIT, False)]
