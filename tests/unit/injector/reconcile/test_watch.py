"""Whatever happens to events, everything is looked at in the end."""

import anyio
import pytest
from loguru import logger

from byfahrer import settings
from byfahrer.engine.errors import RejectedError
from byfahrer.engine.interface import Event, Gap
from byfahrer.reconcile.queue import KeyedQueue
from byfahrer.reconcile.reconciler import Reconciler
from byfahrer.reconcile.stopping import Stopping
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
    monkeypatch.setattr("byfahrer.reconcile.watch.GATHER", 0.01)
    monkeypatch.setattr("byfahrer.reconcile.watch.TELLS_WITHIN", 0.01)


def watching(put):
    """A watch that knows of the target "a" only, and whose queue is a list."""

    class Queue:
        def put(self, key, wait=0.0, *, urgent=True):
            put.append((key, wait, urgent))

    return Watch(
        MemoryEngine(), Queue(), settings.policy(), tracks=lambda key: key == "a", settled=lambda key: True,
        on_ready=None, on_stopping=None,
    )  # fmt: skip


class Daemon:
    """Watch, queue and reconciler on an engine in memory."""

    def __init__(self, resync=NEVER, ping=NEVER, **options):
        self.engine = MemoryEngine()
        self.ready = 0
        policy = settings.policy(**options)
        stopping = Stopping(self.engine, policy)
        reconciler = Reconciler(self.engine, policy, seen=stopping.seen)
        self.queue = KeyedQueue(reconciler.reconcile, reconciler.failed)
        self.watch = Watch(
            self.engine, self.queue, policy, tracks=reconciler.tracks, settled=reconciler.settled,
            on_ready=self.on_ready, on_stopping=stopping.signalled, resync_interval=resync, ping_interval=ping,
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

    async def is_quiet(self):
        """Wait until nothing is left to be looked at."""
        await until(lambda: not any(stream.waiting for stream in self.engine.streams))
        await self.queue.finish()
        await self.queue.finish()

    async def cost(self, act):
        """The calls to the engine by name that come of something."""
        await self.is_quiet()
        before = self.engine.calls.copy()
        await act()
        await self.is_quiet()
        return self.engine.calls - before


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


async def test_what_another_injector_looks_after_costs_no_call_either():
    daemon = Daemon(only_label=("team=a",))
    theirs = daemon.engine.run("theirs", {"team": "b", **ASKS})
    async with daemon:
        await daemon.is_ready()

        async def happens():
            daemon.engine.bounce(theirs)
            orphan = {"team": "b", "byfahrer.target": theirs}
            daemon.engine.delete(daemon.engine.run("x-proxy", orphan, network_mode=f"container:{theirs}"))
            await daemon.watch.resync()

        assert await daemon.cost(happens) == {"containers": 1}
        ours = daemon.engine.run("ours", {"team": "a", **ASKS})
        task = daemon.engine.run("task", {"com.docker.swarm.service.id": "svc"})
        daemon.engine.annotations["svc"] = {"team": "a", **ASKS}
        await daemon.watch.resync()
        await until(lambda: daemon.engine.served(ours) and daemon.engine.served(task))
        daemon.engine.down(daemon.engine.sidecars(ours)[0].id)
        await until(lambda: daemon.engine.served(ours))


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


async def test_a_gap_means_a_list_of_what_has_changed():
    async with Daemon() as daemon:
        await daemon.is_ready()
        daemon.engine.deaf = True
        key = daemon.engine.run("www", ASKS)
        stream = daemon.engine.streams[0]
        stream.waiting.append(Gap.GAP)
        stream.changed.set()
        await until(lambda: daemon.engine.served(key))

        assert daemon.watch.gaps == 1


async def test_a_stream_that_said_nothing_of_what_a_list_shows_is_opened_anew():
    async with Daemon(resync=0.05) as daemon:
        await daemon.is_ready()
        await daemon.is_quiet()
        (stream,) = daemon.engine.streams
        daemon.engine.deaf = True
        key = daemon.engine.run("www", ASKS)
        await until(lambda: stream not in daemon.engine.streams)
        daemon.engine.deaf = False
        await until(lambda: daemon.watch.connected)

        assert daemon.engine.served(key)
        assert daemon.watch.gaps >= 1
        assert daemon.watch.reconnects >= 1


async def test_what_it_saw_and_when_is_known():
    daemon = Daemon()
    async with daemon:
        assert (daemon.watch.connected, daemon.watch.last_event, daemon.watch.last_resync) == (False, 0, 0)
        await daemon.is_ready()
        assert daemon.watch.connected
        assert daemon.watch.last_resync > 0
        daemon.engine.run("plain", {})
        await until(lambda: daemon.watch.events == 2)  # it joins a network, and starts
        assert daemon.watch.last_event >= daemon.watch.last_resync
        daemon.engine.away = True
        daemon.engine.streams[0].close()
        await until(lambda: not daemon.watch.connected)
        assert daemon.watch.reconnects >= 1


async def resync_of(daemon):
    return sorted(await daemon.watch.resync())


@pytest.mark.parametrize("many", [3, 60])
async def test_a_resync_that_finds_nothing_new_is_one_call(many):
    daemon = Daemon()
    for number in range(many):
        daemon.engine.run(f"www{number}", ASKS)
    daemon.engine.run("plain")
    async with daemon:
        await daemon.is_ready()
        await daemon.is_quiet()
        await resync_of(daemon)

        assert await daemon.cost(daemon.watch.resync) == {"containers": 1}


async def test_with_swarm_tasks_it_is_two():
    daemon = Daemon()
    key = daemon.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
    daemon.engine.annotations["svc"] = dict(ASKS)
    async with daemon:
        await daemon.is_ready()
        await daemon.is_quiet()
        await resync_of(daemon)

        assert await daemon.cost(daemon.watch.resync) == {"containers": 1, "services": 1}
        daemon.engine.annotations["svc"] = {"byfahrer.mode": "tcp", **ASKS}
        assert await resync_of(daemon) == [key]
        await until(lambda: [dict(each.env).get("SSLTERM_MODE") for each in daemon.engine.sidecars(key)] == ["tcp"])
        await until(lambda: daemon.engine.served(key))
        daemon.engine.broken["services"] = [RejectedError(503, "no leader")]
        await resync_of(daemon)
        assert daemon.engine.served(key)


async def test_an_event_costs_the_same_however_many_containers_there_are():
    costs = []
    for many in (3, 60):
        daemon = Daemon()
        for number in range(many):
            daemon.engine.run(f"www{number}", ASKS)
        async with daemon:
            await daemon.is_ready()

            async def starts(engine=daemon.engine):
                key = engine.run("one-more", ASKS)
                await until(lambda: engine.served(key))

            costs.append(await daemon.cost(starts))

    for cost in costs:
        assert cost["create"] == cost["start"] == 1
        assert cost["containers"] <= 3
        assert sum(cost.values()) <= 14


async def test_a_resync_finds_what_no_event_told():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key, other = (daemon.engine.run(name, ASKS) for name in ("www", "other"))
        await until(lambda: daemon.engine.served(key) and daemon.engine.served(other))
        await daemon.is_quiet()
        await resync_of(daemon)
        daemon.engine.deaf = True
        for happens in (
            lambda: daemon.engine.bounce(key),
            lambda: daemon.engine.down(daemon.engine.sidecars(key)[0].id),
            lambda: daemon.engine.delete(daemon.engine.sidecars(key)[0].id),
        ):
            happens()
            assert not daemon.engine.served(key)
            assert await resync_of(daemon) == [key]
            await until(lambda: daemon.engine.served(key))
            await daemon.is_quiet()
            await resync_of(daemon)
        daemon.engine.delete(key)
        assert await resync_of(daemon) == [key]
        await until(lambda: daemon.engine.sidecars(key) == [])


async def test_who_is_gone_without_a_word_is_forgotten():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", {"byfahrer.proxy-image": "sslterm:not-there"})
        await until(lambda: daemon.queue.failing() == [key])
        await daemon.watch.resync()
        daemon.engine.deaf = True
        del daemon.engine.all[key]
        daemon.queue.put(key)
        await until(lambda: not daemon.watch._tracks(key))
        assert await resync_of(daemon) == [key]
        await daemon.is_quiet()
        assert await resync_of(daemon) == []


async def test_who_had_something_to_do_is_looked_at_again_though_the_list_shows_the_same():
    """A sidecar that no event tells of, and that exits again as soon as it is started."""
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        await daemon.is_quiet()
        daemon.engine.deaf = True
        sidecar = daemon.engine.sidecars(key)[0].id
        for _ in range(2):
            daemon.engine.down(sidecar, code=1)
            await daemon.watch.resync()
            await until(lambda: daemon.engine.served(key))


async def test_who_waits_for_an_image_is_served_when_one_comes():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", {"byfahrer.proxy-image": "sslterm:new"})
        await until(lambda: daemon.queue.failing() == [key])
        daemon.engine.images["sslterm:new"] = "sha256:new"
        daemon.engine.tell("image", "tag")
        await until(lambda: daemon.engine.served(key))


async def test_whose_image_got_another_name_is_looked_at():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key, other = daemon.engine.run("www", ASKS), daemon.engine.run("plain")
        await until(lambda: daemon.engine.served(key))
        await daemon.is_quiet()
        await resync_of(daemon)
        daemon.engine.images["sslterm"] = "sha256:another"

        assert await resync_of(daemon) == [key] != [other]


async def test_a_name_that_comes_back_with_another_image_rolls_out():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        (old,) = daemon.engine.sidecars(key)
        await daemon.is_quiet()
        del daemon.engine.images["sslterm"]
        for _ in range(3):
            await resync_of(daemon)
        assert daemon.engine.sidecars(key) == [old]
        daemon.engine.images["sslterm"] = "sha256:another"

        assert await resync_of(daemon) == []
        await until(lambda: any(each.image_id != old.image_id for each in daemon.engine.sidecars(key)))
        assert daemon.watch.gaps == 0


async def test_a_sidecar_that_is_unhealthy_is_looked_at_and_its_targets_own_health_is_not_ours():
    put = []
    watch = watching(put)
    sidecar = {"byfahrer.target": "a" * 64}
    for key, labels, action in (
        ("s", sidecar, "health_status: healthy"), ("a", ASKS, "health_status: unhealthy"),
        ("s", sidecar, "health_status: unhealthy"),
    ):  # fmt: skip
        watch._take(Event(kind="container", action=action, id=key, labels=labels), None)

    assert put == [("a" * 64, 0.0, False)]


async def test_a_signal_to_a_sidecar_is_no_reason_to_look():
    put = []
    watching(put)._take(
        Event(kind="container", action="kill", id="s", labels={"byfahrer.target": "a" * 64}, signal="10"), None
    )

    assert put == []


async def test_a_sidecar_knows_at_once_that_its_target_stops_whatever_else_there_is_to_do():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("www", ASKS)
        await until(lambda: daemon.engine.served(key))
        await daemon.is_quiet()
        (sidecar,) = daemon.engine.sidecars(key)
        daemon.engine._set(sidecar.id, labels={**sidecar.labels, "sslterm.drain-signal": "SIGUSR1"})
        daemon.queue.put(key)
        await daemon.is_quiet()
        daemon.queue._workers = 0
        daemon.engine.signalled(key, "1")
        daemon.engine.signalled(key, "15")
        await until(lambda: daemon.engine.killed)

        assert daemon.engine.killed == [(sidecar.id, "SIGUSR1")]


async def test_an_update_of_a_service_is_a_look_at_its_tasks():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
        daemon.engine.annotations["svc"] = dict(ASKS)
        stream = daemon.engine.streams[0]
        stream.waiting.append(Event(kind="service", action="update", id="svc"))
        stream.changed.set()
        await until(lambda: daemon.engine.served(key))


async def test_news_of_other_nodes_are_no_sign_of_lost_events():
    async with Daemon() as daemon:
        await daemon.is_ready()
        key = daemon.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
        await daemon.is_quiet()
        daemon.engine.annotations["svc"] = dict(ASKS)
        daemon.watch.list_soon()
        await until(lambda: daemon.engine.served(key))
        await daemon.is_quiet()

        assert (daemon.watch.gaps, daemon.watch.reconnects) == (0, 0)


async def test_a_target_that_joins_a_network_is_looked_at_and_others_are_not():
    """After a moment: networks go and come with a restart too, and its sidecar is to be kept."""
    put = []
    watch = watching(put)
    for key in ("a", "b"):
        watch._take(Event(kind="network", action="connect", id=key), None)

    assert put == [("a", DIE_WAIT, False)]
