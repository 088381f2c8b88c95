"""
A sidecar is replaced by one that has proved itself; until then, and wherever byfahrer ends meanwhile, one serves.

Long, because a hand-over has many moments, and each has a test of what goes wrong in it.
"""

import re
from dataclasses import replace

import anyio
import pytest
from loguru import logger

from byfahrer import settings
from byfahrer.engine.errors import RejectedError
from byfahrer.model import Status
from byfahrer.reconcile.memory import State
from byfahrer.reconcile.reconciler import DRAIN, PROOF, PROOF_WAIT, PassingError, Reconciler, UnmetError
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


async def serving(**more):
    """A world with one target whose sidecar has served for long."""
    world = World(**more)
    key = world.engine.run("www", ASKS)
    await world.settle()
    world.now += 60
    await world.look(key)
    return world, key


def retag(world, to="sha256:newer"):
    world.engine.images["sslterm"] = to


def by_name(world, key):
    return {each.name: each for each in world.engine.sidecars(key)}


def running(world, key):
    return sorted(name for name, each in by_name(world, key).items() if each.status is Status.RUNNING)


async def test_an_updated_image_takes_over_without_a_gap(said):
    world, key = await serving()
    (old,) = world.engine.sidecars(key)
    retag(world)
    assert await world.look(key) == PROOF
    assert running(world, key) == ["www-proxy", "www-proxy-next"]
    assert world.reconciler.snapshot().targets[0].state is State.REPLACING

    (new,) = [each.id for name, each in by_name(world, key).items() if name.endswith("next")]
    world.engine.deaf_ones.add(new)
    for _ in range(3):
        world.now += PROOF
        assert await world.look(key) == PROOF
        assert running(world, key) == ["www-proxy", "www-proxy-next"]
    assert world.engine.killed == [(old.id, "SIGUSR2")]

    world.engine.deaf_ones.clear()
    world.engine._leave()
    assert running(world, key) == ["www-proxy-next"]
    assert await world.look(key) is None
    assert by_name(world, key).keys() == {"www-proxy"}
    assert world.engine.sidecars(key)[0].image_id == "sha256:newer"
    assert world.engine.served(key)
    assert said[1:] == [
        "Create proxy container 'www-proxy-next' for 'www' from sslterm, beside 'www-proxy'",
        "Remove proxy container 'www-proxy': its image has been updated",
    ]


async def test_an_image_that_is_gone_or_unchanged_changes_nothing():
    world, key = await serving()
    await world.look(key)
    world.engine.images.clear()
    await world.look(key)

    assert world.engine.calls["create"] == 1
    assert world.engine.calls["kill"] == 0


async def test_a_look_at_one_that_serves_costs_one_more_call_for_its_image():
    world, key = await serving()
    world.engine.calls.clear()
    await world.look(key)

    assert dict(world.engine.calls) == {"inspect": 2, "containers": 1, "image_id": 1}


@pytest.mark.parametrize("steps", range(8))
async def test_a_byfahrer_that_follows_goes_on_wherever_the_one_before_ended(steps):
    world, key = await serving()
    retag(world)
    done = 0
    for method in ("create", "start", "kill", "remove", "rename"):
        original = getattr(world.engine, method)

        async def limited(*args, original=original):
            nonlocal done
            if done == steps:
                raise RuntimeError("killed")
            done += 1
            return await original(*args)

        setattr(world.engine, method, limited)
    for _ in range(10):
        await world.look_like_the_queue(key)
        world.now += PROOF
        if done < 2:
            assert running(world, key)
    steps = -1
    world.reconciler = Reconciler(world.engine, settings.policy(), clock=lambda: world.now)
    await world.settle()

    assert world.engine.served(key)
    assert by_name(world, key).keys() == {"www-proxy"}


async def test_while_an_image_is_pulled_its_target_is_looked_after_as_ever():
    """A pull may take half an hour."""
    world = World(pull="always")
    world.engine.registry = {"sslterm": "sha256:first"}
    key = world.engine.run("www", ASKS)
    await world.settle()
    world.now += 60
    retag(world)
    world.engine.registry = {"sslterm": "sha256:newest"}
    real, gate, put = world.engine.pull, anyio.Event(), []

    async def slow(name):
        await gate.wait()
        await real(name)

    world.engine.pull = slow
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.reconciler.pull, put.append)
        await anyio.wait_all_tasks_blocked()
        assert await world.look(key) is None
        (old,) = world.engine.sidecars(key)

        world.engine.down(old.id, code=137)
        await world.look(key)
        assert running(world, key) == ["www-proxy"], "it serves on"

        world.now += 60
        world.engine.bounce(key)
        await world.look(key)
        (still,) = world.engine.sidecars(key)
        assert still.id == old.id
        assert still.started_at > world.engine.all[key].started_at, "where its target is now"

        gate.set()
        await anyio.wait_all_tasks_blocked()
        assert put == [key]
        await world.settle()
        tasks.cancel_scope.cancel()

    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].id != old.id


async def test_while_an_image_cannot_be_had_the_old_one_follows_its_target():
    """The registry is away, and the target restarts."""
    world = World(pull="always")
    world.engine.registry = {"sslterm": "sha256:first"}
    key = world.engine.run("www", ASKS)
    await world.settle()
    (old,) = world.engine.sidecars(key)
    world.now += 60
    retag(world)
    world.engine.registry.clear()
    for _ in range(3):
        world.engine.bounce(key)
        world.now += 60
        await world.look_like_the_queue(key)
        (still,) = world.engine.sidecars(key)
        assert still.id == old.id
        assert still.started_at > world.engine.all[key].started_at

    assert "cannot be pulled" in world.reconciler.snapshot().targets[0].problems[0]
    world.engine.registry["sslterm"] = "sha256:newest"
    await world.settle()
    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].image_id == "sha256:newest"


async def test_a_new_one_that_cannot_work_costs_nothing_and_is_told_once(said):
    world, key = await serving()
    retag(world, "sha256:broken")
    start = world.engine.start

    async def start_and_die(container_id):
        await start(container_id)
        world.engine.said[container_id] = "oops"
        world.engine.down(container_id, code=2)

    world.engine.start = start_and_die
    for _ in range(100):
        await world.look_like_the_queue(key)
        assert "www-proxy" in running(world, key)
        world.now += 1

    problem = "'www': its new proxy container 'www-proxy-next' exited with code 2; its last words: oops; "
    assert [line for line in said if "oops" in line] == [f"{problem}'www-proxy' serves on"]
    assert 10 <= world.engine.calls["start"] <= 18
    (shown,) = world.reconciler.snapshot().targets
    assert (shown.state, shown.sidecar, shown.problems) == (
        State.REPLACING,
        "www-proxy",
        (problem + "'www-proxy' serves on",),
    )

    world.engine.start = start
    retag(world, "sha256:good")
    await world.settle()
    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].image_id == "sha256:good"
    assert said.count("'www' has no problem any more") == 1


async def test_an_image_taken_back_leaves_the_one_that_serves():
    world, key = await serving()
    (old,) = world.engine.sidecars(key)
    retag(world)
    await world.look(key)
    retag(world, old.image_id)
    await world.settle()

    assert world.engine.sidecars(key) == [old]


async def test_a_target_that_restarts_while_its_new_one_is_down_has_the_old_one_back_at_once():
    world, key = await serving()
    retag(world, "sha256:broken")
    await world.look(key)
    world.engine.down(by_name(world, key)["www-proxy-next"].id, code=2)
    for _ in range(3):
        world.now += 1
        await world.look(key)
        next_one = by_name(world, key)["www-proxy-next"]
        if next_one.status is Status.RUNNING:
            world.engine.down(next_one.id, code=2)
    world.engine.bounce(key)
    await world.look(key)

    old = by_name(world, key)["www-proxy"]
    assert world.engine.namespaces[old.id] == (key, world.engine.all[key].started_at)
    assert old.status is Status.RUNNING


async def test_an_old_one_that_does_not_leave_goes_in_the_end():
    world, key = await serving()
    (old,) = world.engine.sidecars(key)
    retag(world)
    await world.look(key)
    world.engine.deaf_ones.add(by_name(world, key)["www-proxy-next"].id)
    await world.look(key)
    world.now += PROOF_WAIT + old.stop_timeout
    await world.look(key)
    assert world.engine.killed == [(old.id, "SIGUSR2"), (old.id, "SIGTERM")]
    await world.settle()

    assert world.engine.served(key)


async def test_a_new_one_that_says_that_it_does_not_serve_is_told_of_and_costs_nothing(said):
    world, key = await serving()
    world.reconciler._ready = lambda sidecar: not sidecar.name.endswith("next")  # the daemon's
    retag(world)
    await world.look(key)
    (new,) = [each.id for name, each in by_name(world, key).items() if name.endswith("next")]
    world.engine.deaf_ones.add(new)
    for _ in range(100):
        await world.look(key)
        world.now += PROOF
    assert running(world, key) == ["www-proxy", "www-proxy-next"]
    text = "'www': its new proxy container 'www-proxy-next' runs and does not serve; 'www-proxy' serves on"
    assert [line for line in said if "does not serve" in line] == [text]

    world.reconciler._ready = lambda sidecar: True
    world.engine.deaf_ones.clear()
    world.engine._leave()
    await world.settle()
    assert world.engine.served(key)
    assert said.count("'www' has no problem any more") == 1


async def test_who_was_told_to_leave_is_told_again_after_its_restart():
    world, key = await serving()
    retag(world, "sha256:broken")
    await world.look(key)
    (old, new) = by_name(world, key)["www-proxy"], by_name(world, key)["www-proxy-next"]
    world.engine.deaf_ones.add(new.id)
    await world.look(key)
    world.engine.down(new.id, code=2)
    world.engine.bounce(key)
    for _ in range(3):
        await world.look(key)
        world.now += PROOF

    assert world.engine.killed == [(old.id, "SIGUSR2")] * 2


async def test_an_old_one_that_cannot_be_started_just_now_is_not_lost():
    world, key = await serving()
    (old,) = world.engine.sidecars(key)
    retag(world, "sha256:broken")
    await world.look(key)
    world.engine.down(by_name(world, key)["www-proxy-next"].id, code=2)
    world.engine.bounce(key)
    world.engine.broken["restart"] = [RejectedError(500, "no space left on device")]
    with pytest.raises(UnmetError, match="'www-proxy' did not start"):
        await world.look(key)
    world.now += 1
    await world.look(key)

    assert world.engine.all[old.id].status is Status.RUNNING
    assert world.engine.namespaces[old.id] == (key, world.engine.all[key].started_at)


class TestARestartThatIsUnderWay:
    """Something else asks for a look at the target while it is down for a moment."""

    async def test_takes_no_sidecar_away(self):
        world, key = await serving()
        retag(world, "sha256:broken")
        await world.look(key)
        (old, new) = by_name(world, key)["www-proxy"], by_name(world, key)["www-proxy-next"]
        world.engine.down(key)
        world.reconciler._wall = lambda: world.engine.all[key].finished_at / 1e9 + 0.3
        assert await world.look(key) == pytest.approx(0.7)
        world.engine.up(key)
        await world.look(key)

        assert {old.id, new.id} & {each.id for each in world.engine.sidecars(key)}
        assert running(world, key)

    async def test_is_not_waited_for_by_another_clock_than_ours(self):
        world, key = await serving()
        world.engine.down(key)
        world.reconciler._wall = lambda: -1e6
        assert await world.look(key) == 1
        world.now += 1
        assert await world.look(key) is None

        assert world.engine.sidecars(key) == []

    async def test_is_not_waited_for_by_one_that_ends(self):
        world, key = await serving()
        world.engine.down(key)
        world.reconciler._wall = lambda: world.engine.all[key].finished_at / 1e9
        world.reconciler.hurry()
        assert await world.look(key) is None

        assert world.engine.sidecars(key) == []


async def test_a_drain_is_not_waited_for_and_ends_in_time():
    world, key = await serving()
    world.engine.lasts = True
    (old,) = world.engine.sidecars(key)
    world.engine.all[key] = replace(world.engine.all[key], labels=ASKS | {"byfahrer.frontend": ":443"})
    await world.look(key)
    world.now += PROOF
    await world.look(key)
    world.now += PROOF
    assert 0 < await world.look(key) <= 1
    world.now += old.stop_timeout - PROOF
    assert await world.look(key) is None

    assert world.engine.killed == [(old.id, "SIGTERM")]
    assert world.engine.calls["stop"] == 0
    assert by_name(world, key).keys() == {"www-proxy"}


@pytest.mark.parametrize(
    ("of_its_own", "grace"),
    [
        ({"stop_timeout": 3600}, 3600),
        ({"stop_timeout": 10**9}, 86402),
        ({"stop_timeout": 3600, "image": "evil"}, DRAIN),
        ({"stop_timeout": 3600, "freedoms": ("privileged",)}, DRAIN),
    ],
)
async def test_a_drain_is_as_long_as_the_sidecar_says_only_if_it_is_one_of_ours(of_its_own, grace):
    world, key = await serving()
    world.engine.lasts = True
    (old,) = world.engine.sidecars(key)
    world.engine.all[old.id] = replace(old, **of_its_own)
    world.engine.all[key] = replace(world.engine.all[key], labels={"byfahrer.enable": "false"})
    await world.look(key)
    world.now += grace - 1
    assert await world.look(key) == 1
    world.now += 1
    assert await world.look(key) is None

    assert world.engine.sidecars(key) == []


async def test_a_target_that_restarts_during_a_drain_is_served_at_once():
    world, key = await serving()
    world.engine.lasts = True
    retag(world)
    await world.look(key)
    world.now += PROOF
    await world.look(key)
    world.now += PROOF
    await world.look(key)
    assert len(world.engine.sidecars(key)) == 2
    world.engine.bounce(key)
    await world.look(key)

    assert world.engine.served(key)


async def test_a_new_one_on_another_port_that_says_when_it_is_ready_is_believed():
    says = None
    world, key = await serving()
    world.engine.all[key] = replace(world.engine.all[key], labels=ASKS | {"byfahrer.frontend": ":443"})
    world.reconciler._ready = lambda sidecar: says  # the daemon's
    await world.look(key)
    says = False
    await world.look(key)
    world.now += PROOF + 1
    assert await world.look(key) == 1
    assert len(world.engine.sidecars(key)) == 2
    says = True
    await world.settle()
    assert world.engine.served(key)

    says = False
    world.engine.all[key] = replace(world.engine.all[key], labels=ASKS)
    await world.look(key)
    await world.look(key)
    world.now += PROOF_WAIT
    await world.settle()
    assert "SSLTERM_FRONTEND_ADDR" not in world.engine.sidecars(key)[0].env


async def test_other_settings_take_over_in_the_same_way():
    world, key = await serving()
    world.reconciler = Reconciler(world.engine, settings.policy(sidecar_memory="100m"), clock=lambda: world.now)
    await world.look(key)
    assert running(world, key) == ["www-proxy", "www-proxy-next"]
    await world.settle()

    assert world.engine.served(key)


async def test_without_a_shared_port_the_old_one_goes_first_and_not_before_its_time():
    world = World()
    world.engine.image_labels.clear()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    retag(world)
    world.now += 0.4
    assert 0 < await world.look(key) <= 1
    assert running(world, key) == ["www-proxy"]
    await world.settle()

    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].image_id == "sha256:newer"


async def test_a_stranger_with_the_name_is_told_and_the_new_one_serves_all_the_same(said):
    world, key = await serving()
    retag(world)
    await world.look(key)
    world.engine.delete(by_name(world, key)["www-proxy"].id)
    world.engine.run("www-proxy")
    with pytest.raises(UnmetError, match="the name 'www-proxy' is taken by container"):
        await world.look(key)
    for _ in range(3):
        assert not await world.look_like_the_queue(key)

    assert running(world, key) == ["www-proxy-next"]
    assert len([line for line in said if "is taken by" in line]) == 1
    assert "'www' has no problem any more" not in said


@pytest.mark.parametrize("name", ["www-proxy-next", "www-proxy"])
async def test_a_stranger_with_the_next_name_keeps_no_update_away(said, name):
    world, key = await serving()
    (old,) = world.engine.sidecars(key)
    if name == "www-proxy":
        await world.engine.rename(old.id, "www-proxy-next")
    stranger = world.engine.run(name)
    retag(world)
    assert await world.look(key) == PROOF
    (new,) = [each for each in world.engine.sidecars(key) if each.id != old.id]
    assert re.fullmatch("www-proxy-next-[0-9a-f]{6}", new.name)
    assert f"'www': the name '{name}' is taken by container {stranger[:12]}, which is not ours: rename it" in said
    world.engine.delete(stranger)
    await world.settle()

    assert [(each.id, each.name) for each in world.engine.sidecars(key)] == [(new.id, "www-proxy")]


async def test_a_name_that_another_injector_gives_at_the_same_moment_is_no_problem():
    world, key = await serving()
    retag(world)
    await world.look(key)
    world.engine.delete(by_name(world, key)["www-proxy"].id)
    rename = world.engine.rename

    async def too_late(container_id, name):
        await rename(container_id, name)
        await rename(container_id, name)

    world.engine.rename = too_late
    with pytest.raises(PassingError):
        await world.look(key)
    world.engine.rename = rename
    await world.settle()

    assert world.engine.served(key)


class TestUnwell:
    async def test_a_silent_or_unhealthy_one_is_restarted_at_its_pace(self, said):
        world, key = await serving()
        (mine,) = world.engine.sidecars(key)
        silent = {mine.id}
        world.reconciler._silent = lambda sidecar: sidecar.id in silent  # the daemon's
        for _ in range(100):
            await world.look(key)
            world.now += 0.1
        assert 2 <= world.engine.calls["restart"] <= 5
        assert said[-1] == "Restart proxy container 'www-proxy': it is not heard of any more"

        silent.clear()
        world.engine.all[mine.id] = replace(world.engine.all[mine.id], health="unhealthy")
        world.now += 60
        await world.look(key)
        assert said[-1] == "Restart proxy container 'www-proxy': it is unhealthy"


class TestClock:
    async def test_set_back_between_a_targets_start_and_its_sidecars_costs_no_restart(self):
        world = World()
        key = world.engine.run("www", ASKS)
        world.engine.set_clock_back()
        for _ in range(5):
            await world.look(key)
            world.now += 60

        assert world.engine.served(key)
        assert (world.engine.calls["start"], world.engine.calls["restart"]) == (1, 0)

    async def test_set_back_between_two_starts_of_a_target_leaves_no_orphan(self):
        world, key = await serving()
        world.engine.set_clock_back()
        world.engine.bounce(key)
        await world.look(key)
        assert world.engine.served(key)
        world.now += 60
        await world.look(key)

        assert world.engine.calls["restart"] == 1

    async def test_set_back_while_byfahrer_was_away_costs_one_restart(self):
        world, key = await serving()
        world.engine.set_clock_back()
        world.engine.bounce(key)
        world.engine.set_clock_back()
        await world.engine.restart(world.engine.sidecars(key)[0].id)
        world.reconciler = Reconciler(world.engine, settings.policy(), clock=lambda: world.now)
        await world.settle()
        await world.settle()

        assert world.engine.served(key)
        assert world.engine.calls["restart"] == 2


class TestPortConflict:
    async def test_is_told_once_and_tried_again_ever_less_often(self, said):
        world = World()
        key = world.engine.run("www", ASKS)
        world.engine.listens.add((key, ":8081"))
        for _ in range(300):
            await world.look_like_the_queue(key)
            world.now += 1

        text = "'www': port conflict: frontend-addr=:8081: already in use in this network namespace"
        assert [line for line in said if "conflict" in line] == [text]
        assert [line for line in said if "no problem" in line] == []
        assert 12 <= world.engine.calls["start"] <= 20
        (shown,) = world.reconciler.snapshot().targets
        assert (shown.state, shown.problems) == (State.FAILING, (text,))

    async def test_is_tried_at_once_when_the_target_has_restarted(self, said):
        world = World()
        key = world.engine.run("www", ASKS)
        world.engine.listens.add((key, ":8081"))
        for _ in range(60):
            await world.look_like_the_queue(key)
            world.now += 1
        world.engine.listens.clear()
        world.engine.bounce(key)
        assert await world.look(key) == PROOF
        assert world.engine.served(key)
        await world.look(key)
        world.now += PROOF
        await world.look(key)

        assert said[-1] == "'www' has no problem any more"


class TestWantOfMemory:
    async def test_is_said_of_a_sidecar_that_the_kernel_killed(self, said):
        world, key = await serving()
        (mine,) = world.engine.sidecars(key)
        world.engine.down(mine.id, code=137)
        world.engine.all[mine.id] = replace(world.engine.all[mine.id], oom_killed=True)
        await world.look(key)

        assert "Proxy container 'www-proxy' exited with code 137 (the kernel killed it for want of memory)" in said


class TestSnapshot:
    async def test_counts_what_was_done_and_tells_the_last_of_it(self):
        world, key = await serving()
        world.engine.delete(key)
        await world.look(key)
        refused = world.engine.run("host", ASKS, network_mode="host")
        await world.look(refused)
        found = world.reconciler.snapshot()

        assert found.actions == {("inject", "ok"): 1, ("remove", "ok"): 1}
        (shown,) = found.targets
        assert (shown.id, shown.name, shown.state, shown.action) == (refused, "host", State.REFUSED, "")
        assert shown.problems[0].startswith("'host': --network host")

    async def test_tells_of_failures_until_they_are_over(self):
        world = World()
        key = world.engine.run("www", ASKS)
        world.engine.images.clear()
        await world.look_like_the_queue(key)
        (shown,) = world.reconciler.snapshot().targets

        assert (shown.state, shown.action) == (State.FAILING, "")
        assert shown.error.startswith("image 'sslterm' is not on this engine")
        assert world.reconciler.snapshot().actions == {}

        world.engine.images["sslterm"] = "sha256:1"
        world.engine.broken["create"] = [RejectedError(500, "no space left on device")]
        world.now += 60
        await world.look_like_the_queue(key)
        (shown,) = world.reconciler.snapshot().targets
        assert (shown.state, shown.action) == (State.FAILING, "inject")
        assert shown.error.endswith("cannot be made: the engine answered 500: no space left on device")
        assert world.reconciler.snapshot().actions == {("inject", "failed"): 1}

        world.engine.images["sslterm"] = "sha256:1"
        await world.settle()
        await world.look(key)
        (shown,) = world.reconciler.snapshot().targets
        assert (shown.state, shown.error, shown.sidecar) == (State.SERVING, "", "www-proxy")
        assert shown.acted_at > 0
