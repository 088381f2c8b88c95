"""
From any state, after any fault, one look at each target leaves exactly the sidecars that are asked for.

Long, because the promise is one, and each fault that could break it is a test of its own.
"""

import anyio
import pytest
from loguru import logger

from byfahrer import settings
from byfahrer.engine.errors import ConflictError, EngineError, NotFoundError, RejectedError, UnreachableError
from byfahrer.labels import wish_by_hand
from byfahrer.model import Status
from byfahrer.reconcile.reconciler import PASSES, PassingError, Reconciler, UnmetError
from lab.reconciling import ASKS, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def said():
    """Log lines of INFO and above."""
    lines: list[str] = []
    handler = logger.add(lambda text: lines.append(str(text).rstrip()), level="INFO", format="{message}")
    yield lines
    logger.remove(handler)


async def test_a_target_gets_its_sidecar_with_three_calls_beside_the_look():
    world = World()
    key = world.engine.run("www", ASKS)

    assert await world.look(key) is None
    assert world.engine.served(key)
    assert dict(world.engine.calls) == {"inspect": 1, "containers": 1, "image_id": 1, "create": 1, "start": 1}


async def test_what_was_seen_is_told_each_time():
    world = World()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    await world.look(key)

    assert [(each.target_id, len(each.sidecars)) for each in world.seen] == [(key, 0), (key, 1)]


async def test_nothing_is_done_twice():
    world = World()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    calls = world.engine.calls["create"], world.engine.calls["start"]
    await world.look(key)

    assert calls == (1, 1)
    assert world.engine.calls["remove"] == 0


async def test_a_restarted_target_has_the_same_sidecar_back_in_its_new_namespace():
    world = World()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    (before,) = world.engine.sidecars(key)
    world.now += 5
    world.engine.bounce(key)
    assert not world.engine.served(key)
    await world.look(key)

    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].id == before.id


async def test_the_sidecar_goes_with_its_target():
    world = World()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    world.engine.delete(key)
    await world.look(key)

    assert world.engine.all == {}
    assert not world.reconciler.tracks(key)


async def test_a_failed_start_leaves_no_container():
    world = World()
    key = world.engine.run("www", ASKS)
    world.engine.broken["start"] = [RejectedError(500, "no space left on device")]
    with pytest.raises(UnmetError, match="'www-proxy' did not start: the engine answered 500: no space left"):
        await world.look(key)

    assert world.engine.sidecars(key) == []


async def test_what_cannot_be_done_is_told_once_until_it_can(said):
    """As behind a filter that lets byfahrer only look."""
    world = World()
    key = world.engine.run("www", ASKS)
    await world.settle()
    world.engine.down(key)
    world.now += 60
    world.engine.broken["remove"] = [RejectedError(403, "Forbidden") for _ in range(5)]
    for _ in range(5):
        assert not await world.look_like_the_queue(key)
        world.now += 60
    await world.look(key)
    await world.look(key)

    assert [line for line in said if "Forbidden" in line] == ["'www': the engine answered 403: Forbidden"]
    assert said[-1] == "'www' has no problem any more"
    assert world.engine.sidecars(key) == []


@pytest.mark.parametrize("error", [NotFoundError("No such container"), ConflictError("not running")])
async def test_a_target_that_vanishes_between_create_and_start_is_nobodys_problem(error, said):
    world = World()
    key = world.engine.run("www", ASKS)
    create = world.engine.create

    async def create_and_lose(*args):
        made = await create(*args)
        world.engine.delete(key) if isinstance(error, NotFoundError) else world.engine.down(key)
        return made

    world.engine.create = create_and_lose
    assert await world.look(key) is None

    assert world.engine.sidecars(key) == []
    assert said == ["Create proxy container 'www-proxy' for 'www' from sslterm"]


async def test_a_target_that_restarts_while_its_sidecar_is_started_is_nobodys_problem(said):
    world = World()
    key = world.engine.run("www", ASKS)
    start = world.engine.start

    async def restart_meanwhile(sidecar_id):
        world.engine.start = start
        world.engine.down(key)
        try:
            await start(sidecar_id)
        finally:
            world.engine.up(key)

    world.engine.start = restart_meanwhile
    await world.settle()

    assert world.engine.served(key)
    assert [line for line in said if not line.startswith("Create")] == []


async def test_a_sidecar_that_somebody_removes_as_it_is_started_again_is_nobodys_problem(said):
    world = World()
    key = world.engine.run("www", ASKS)
    await world.settle()
    world.engine.down(world.engine.sidecars(key)[0].id)
    world.engine.broken["start"] = [ConflictError("container is marked for removal and cannot be started")]
    await world.settle()

    assert world.engine.served(key)
    assert not [line for line in said if "did not start" in line]


async def test_an_image_that_is_not_there_is_told_once_and_used_when_it_comes(said):
    world = World(pull="never")
    world.engine.images.clear()
    key = world.engine.run("www", ASKS)
    for _ in range(3):
        assert not await world.look_like_the_queue(key)
        world.now += 60
    world.engine.images["sslterm"] = "sha256:new"
    await world.settle()

    assert world.engine.served(key)
    assert [line for line in said if not line.startswith("Create")] == [
        "'www': image 'sslterm' is not on this engine: build or pull it (docker pull sslterm)",
        "'www' has no problem any more",
    ]


async def test_a_name_that_a_stranger_has_is_told(said):
    world = World()
    stranger = world.engine.run("www-proxy")
    key = world.engine.run("www", ASKS)
    with pytest.raises(UnmetError, match=f"the name 'www-proxy' is taken by container {stranger[:12]}"):
        await world.look(key)
    world.engine.delete(stranger)
    await world.settle()

    assert world.engine.served(key)


async def test_a_name_that_another_injector_has_just_used_is_no_problem():
    world = World()
    key = world.engine.run("www", ASKS)
    other = Reconciler(world.engine, settings.policy())
    listed = world.engine.containers

    async def listed_too_early(label=None):
        world.engine.containers = listed
        found = await listed(label)
        await other.reconcile(key)
        return found

    world.engine.containers = listed_too_early
    with pytest.raises(PassingError):
        await world.look(key)
    await world.settle()

    assert world.engine.served(key)


async def test_a_newcomer_gets_the_name_of_a_renamed_target_and_each_its_own_sidecar():
    world = World()
    first = world.engine.run("www", ASKS)
    await world.look(first)
    await world.engine.rename(first, "old")
    await world.look(first)
    second = world.engine.run("www", ASKS)
    await world.settle()

    assert world.engine.served(first)
    assert world.engine.served(second)
    assert [c.name for key in (first, second) for c in world.engine.sidecars(key)] == ["old-proxy", "www-proxy"]


async def test_a_name_that_an_orphan_has_is_free_soon():
    world = World()
    first = world.engine.run("www", ASKS)
    await world.look(first)
    world.engine.delete(first)
    second = world.engine.run("www", ASKS)
    await world.settle()

    assert world.engine.served(second)
    assert world.engine.sidecars(first) == []


async def test_a_name_that_an_orphan_of_somebody_else_keeps_is_told_once(said):
    world = World(only_label=("team=a",))
    other = Reconciler(world.engine, settings.policy())
    first = world.engine.run("www", ASKS | {"team": "b"})
    await other.reconcile(first)
    (orphan,) = world.engine.sidecars(first)
    world.engine.delete(first)
    key = world.engine.run("www", ASKS | {"team": "a"})
    why = f"'www': tried again and again: the name 'www-proxy' was taken for a moment, by container {orphan.id[:12]}"
    for failures in range(1, 12):
        assert not await world.look_like_the_queue(key)
        world.now += 60
        assert said.count(why) == (failures >= PASSES)
    world.engine.delete(orphan.id)
    await world.settle()

    assert world.engine.served(key)
    assert said[-1] == "'www' has no problem any more"


async def test_a_crashing_sidecar_is_started_again_ever_less_often_with_its_last_words(said):
    world = World()
    world.engine.words = "port 8081 is taken"
    key = world.engine.run("www", ASKS)
    await world.look(key)
    tries = 1
    for _ in range(600):
        (mine,) = world.engine.sidecars(key)
        if mine.status is Status.RUNNING:
            world.engine.down(mine.id, code=1)
        world.now += 0.1
        if await world.look(key) is None:
            tries += 1

    assert 10 <= tries <= 16
    assert "Proxy container 'www-proxy' exited with code 1; its last words: port 8081 is taken" in said


async def test_a_crash_looping_target_costs_one_start_a_second_at_most():
    world = World()
    key = world.engine.run("www", ASKS)
    for _ in range(100):
        await world.look_like_the_queue(key)
        world.engine.loop(key)
        await world.look_like_the_queue(key)
        world.engine.up(key)
        world.now += 0.1

    assert world.engine.calls["start"] <= 11
    assert [c.status for c in world.engine.sidecars(key)] in ([], [Status.RUNNING])


async def test_a_sidecar_removed_by_hand_comes_back_at_once():
    world = World()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    world.now += 30
    await world.look(key)
    world.engine.delete(world.engine.sidecars(key)[0].id)

    assert await world.look(key) is None
    assert world.engine.served(key)


async def test_a_problem_is_told_once_and_again_when_it_changes(said):
    world = World()
    key = world.engine.run("www", ASKS, network_mode="host")
    for _ in range(3):
        await world.look(key)

    assert len(said) == 1
    assert said[0].startswith("'www': --network host: expected")


async def test_an_engine_that_is_away_is_not_told_for_each_target(said):
    world = World()
    key = world.engine.run("www", ASKS)
    world.engine.away = True
    with pytest.raises(UnreachableError):
        await world.look(key)
    world.reconciler.failed(key, UnreachableError("x"), 1)

    assert said == []


async def test_a_bug_is_told_with_its_place(said):
    world = World()
    world.reconciler.failed("x" * 64, ZeroDivisionError("oops"), 1)

    assert "a bug of byfahrer" in said[0]


async def test_service_labels_count_only_for_tasks_and_follow_changes():
    world = World()
    world.engine.annotations["svc"] = dict(ASKS)
    key = world.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
    plain = world.engine.run("plain")
    await world.settle()
    await world.look(plain)
    assert world.engine.served(key)
    assert world.engine.calls["service"] == 1

    world.engine.annotations["svc"] = {}
    await world.settle()
    assert world.engine.sidecars(key) == []


async def test_the_last_requests_of_a_removed_service_still_have_their_sidecar():
    world = World()
    world.engine.annotations["svc"] = dict(ASKS)
    key = world.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
    await world.look(key)
    del world.engine.annotations["svc"]
    await world.look(key)
    assert world.engine.served(key)

    world.engine.down(key)
    await world.look(key)
    assert world.engine.sidecars(key) == []


async def test_a_service_whose_labels_cannot_be_read_now_keeps_its_sidecars():
    world = World()
    world.engine.annotations["svc"] = dict(ASKS)
    key = world.engine.run("web.1", {"com.docker.swarm.service.id": "svc"})
    await world.look(key)
    world.engine.broken["service"] = [RejectedError(503, "no leader")]
    with pytest.raises(EngineError):
        await world.look(key)

    assert world.engine.served(key)


async def test_a_sidecar_made_by_hand_is_kept_and_reaped_like_others():
    world = World()
    key = world.engine.run("db")
    await world.look(key, by_hand=wish_by_hand("sslterm", {"mode": "tcp"}))
    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].env["SSLTERM_MODE"] == "tcp"

    world.now += 5
    world.engine.bounce(key)
    await world.settle()
    assert world.engine.served(key)

    world.engine.down(key)
    await world.settle()
    assert world.engine.sidecars(key) == []


async def test_who_only_says_that_it_is_a_sidecar_is_left_alone_and_may_be_a_target():
    world = World()
    victim = world.engine.run("victim")
    world.engine.images["evil"] = "sha256:evil"
    forged = {"byfahrer.manual": "true", "byfahrer.proxy-image": "evil"}
    by_name = world.engine.run("a", {"byfahrer.target": "victim"} | forged)
    by_id = world.engine.run("b", {"byfahrer.target": victim} | forged)
    orphan = world.engine.run("c", {"byfahrer.target": "d" * 64})
    honest = world.engine.run("d", {"byfahrer.target": victim} | ASKS)
    await world.settle()

    assert {victim, by_name, by_id, orphan, honest} < set(world.engine.all)
    assert world.engine.sidecars(victim) == [world.engine.all[by_id], world.engine.all[honest]]
    assert world.engine.served(honest)
    assert world.engine.calls["create"] == 1


async def test_a_container_that_has_a_targets_id_for_a_name_is_not_that_target():
    world = World()
    gone = "d" * 64
    world.engine.run(gone, ASKS)
    await world.look(gone)

    assert world.engine.calls["create"] == 0


async def test_two_injectors_at_once_are_harmless():
    world, other = World(), None
    other = Reconciler(world.engine, settings.policy())
    keys = [world.engine.run(f"www{n}", ASKS) for n in range(5)]

    async def look(reconciler, key):
        for _ in range(4):
            try:
                await reconciler.reconcile(key)
            except (PassingError, UnmetError, EngineError):
                world.now += 2

    async with anyio.create_task_group() as tasks:
        for key in keys:
            tasks.start_soon(look, world.reconciler, key)
            tasks.start_soon(look, other, key)
    await world.settle()

    assert all(world.engine.served(key) for key in keys)
