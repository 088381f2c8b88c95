"""Each fault that can be made of an engine in memory, and the line that tells it."""

from dataclasses import replace

import pytest

from byfahrer import checks, doctor, settings
from byfahrer.engine.errors import RejectedError, UnreachableError
from byfahrer.engine.interface import EngineInfo
from byfahrer.finding import Finding, Level, bad
from byfahrer.labels import wish_by_hand
from byfahrer.reconcile.reconciler import Reconciler
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}
INFO = EngineInfo(name="node", version="20.10", api_version="1.41", role="none", now="1000.0")


@pytest.fixture
def anyio_backend():
    return "asyncio"


class World:
    """An engine in memory, and what is found out about it."""

    def __init__(self, **policy):
        self.policy = settings.policy(**policy)
        self.engine = MemoryEngine()

    async def serve(self, key):
        await Reconciler(self.engine, self.policy).reconcile(key)
        return self.engine.sidecars(key)[0].id

    async def findings(self, info=INFO, now=1000.0, told=None):
        return await doctor.examine(self.engine, info, self.policy, now=now, told=told)

    async def bad(self, check, **more):
        """What is no `ok` of one check."""
        found = [each for each in await self.findings(**more) if each.check == check]
        return [(str(each.level), each.text) for each in found if each.level is not Level.OK]


@pytest.fixture
def world():
    return World()


async def test_nothing_is_wrong_where_all_is_well_and_nothing_is_changed(world):
    await world.serve(world.engine.run("www", ASKS))
    before = dict(world.engine.all)
    found = await world.findings()

    assert {each.level for each in found} == {Level.OK}
    assert {each.check for each in found} == {"api", "rights", "engine", "clock", "swarm", "images", "targets", "ports"}
    assert world.engine.all == before


@pytest.mark.parametrize("version", ["1.29", "1.9", "x", ""])
async def test_an_engine_that_is_too_old(world, version):
    ((level, text),) = await world.bad("api", info=replace(INFO, api_version=version))

    assert level == "problem"
    assert "byfahrer needs 1.30 at least; update Docker" in text


@pytest.mark.parametrize(
    ("error", "level", "said"),
    [
        (RejectedError(403, "Forbidden"), "warning", "may look only (403): enough for run --observe"),
        (RejectedError(500, "broken"), "problem", "cannot act: the engine answered 500: broken"),
        (UnreachableError("gone"), "problem", "cannot act: gone"),
    ],
)
async def test_an_engine_that_lets_us_only_look(world, error, level, said):
    world.engine.broken["start"] = [error]
    ((found, text),) = await world.bad("rights")

    assert found == level
    assert text.startswith(said)


@pytest.mark.parametrize(("apart", "level"), [(29, None), (-31, "warning"), (31, "warning"), (-300, "problem")])
async def test_clocks_that_are_apart(world, apart, level):
    found = await world.bad("clock", now=1000.0 - apart)

    assert [each for each, _ in found] == ([level] if level else [])
    if found:
        assert f"{abs(apart)} s {'ahead of' if apart > 0 else 'behind'} ours; set both by NTP" in found[0][1]


async def test_a_worker_of_a_swarm_cannot_read_labels_of_services(world):
    assert "--container-label" in (await world.bad("swarm", info=replace(INFO, role="worker")))[0][1]
    assert await world.bad("swarm", info=replace(INFO, role="manager")) == []


@pytest.mark.parametrize("name", ["userns", "rootless"])
def test_users_that_are_others_on_the_host(name):
    info = replace(INFO, security=("seccomp", name))
    (finding, _) = checks.confinement(info, in_container=False, authority=True)

    assert finding.level is Level.WARNING
    assert "run byfahrer in a container of this engine" in finding.text
    for inside, authority in ((True, True), (False, False)):
        assert not [f for f in checks.confinement(info, in_container=inside, authority=authority) if f.level != "ok"]


async def test_limits_that_do_not_hold(world):
    assert len(await world.bad("engine", info=replace(INFO, unlimited=("memory", "pids")))) == 2


async def test_live_restore_is_a_hint_and_no_more(world):
    assert [f for f in await world.findings() if "live-restore" in f.text and f.level is Level.OK]
    assert not [f for f in await world.findings(replace(INFO, live_restore=True)) if "live-restore" in f.text]


async def test_an_image_that_is_not_there():
    for pull, level in (("never", "problem"), ("missing", "warning")):
        world = World(pull=pull)
        world.engine.images.clear()
        world.engine.run("www", ASKS)
        world.engine.run("shop", ASKS)
        ((found, text),) = await world.bad("images")

        assert found == level
        assert "image 'sslterm' is not on this engine: build or pull it (docker pull sslterm)" in text
        assert "shop, www" in text or "www, shop" in text
    world = World()
    world.engine.images.clear()
    assert "before it is asked for" in (await world.bad("images"))[0][1]


async def test_an_image_that_the_daemon_cannot_pull_is_told_with_its_target(world):
    world.engine.images.clear()
    key = world.engine.run("www", ASKS)
    told = {key: {"problems": ["'www': image 'sslterm' is not on this engine, and cannot be pulled: no"]}}

    assert await world.bad("images", told=told) == []
    assert [level for level, _ in await world.bad("targets", told=told)] == ["problem"]


async def test_a_target_that_is_refused_or_waits(world):
    world.engine.run("bad", ASKS | {"byfahrer.mode": "x"})
    world.engine.run("host", ASKS, network_mode="host")
    world.engine.run("late", ASKS)
    stale = world.engine.run("stale", ASKS)
    await world.serve(stale)
    world.engine.bounce(stale)
    found = await world.bad("targets")

    assert [level for level, _ in found] == ["problem", "problem", "problem", "warning"]
    assert found[0][1] == "'bad' gets no sidecar: byfahrer.mode='x': expected http or tcp"
    assert found[1][1].startswith("'host' gets no sidecar: --network host: expected")
    assert found[2][1] == "'late' asks for a sidecar and has none: start byfahrer run"
    assert found[3][1].startswith("'stale-proxy' is in a namespace that its target has left")


async def test_a_daemon_that_answers_is_not_to_be_started_and_its_reasons_are_told_once(world):
    late = world.engine.run("late", ASKS)
    (unknown,) = await world.bad("targets", told={})
    error = {"problems": ["'late': image pull failed: no"], "error": "image pull failed: no"}
    (pulled,) = await world.bad("targets", told={late: error})
    (other,) = await world.bad("targets", told={late: {"error": "odd"}})
    found = await world.bad("targets", told={"x" * 64: {"name": "gone", "error": "cannot look"}})

    text = "'late' asks for a sidecar and has none yet, and byfahrer does not say why: see its log"
    assert unknown == ("warning", text)
    assert pulled == ("problem", "'late' gets no sidecar: image pull failed: no")
    assert other == ("problem", "'late' gets no sidecar: odd")
    assert found[1:] == [("problem", "'gone': cannot look")]


async def test_why_a_sidecar_has_ended_is_told_as_the_daemon_does(world):
    key = world.engine.run("www", ASKS)
    world.engine.down(await world.serve(key), code=1)
    world.engine.words = "port 8081 is taken"
    (found,) = await world.bad("targets", told={key: {"problems": ["'www': port conflict: 8081"]}})

    assert found == ("problem", "'www-proxy' of 'www' does not serve: exited (1); port conflict: 8081")


async def test_a_sidecar_that_has_ended_and_its_last_words(world):
    world.engine.down(await world.serve(world.engine.run("www", ASKS)), code=1)
    world.engine.words = "port 8081 is taken"
    (found,) = await world.bad("targets")

    text = "'www-proxy' of 'www' does not serve: exited (1); its last words: port 8081 is taken"
    assert found == ("problem", text)


async def test_ports_by_which_nobody_gets_to_a_sidecar_or_everybody_round_it(world):
    world.engine.run("www", ASKS, published={8081: ("0.0.0.0:8081",)})
    world.engine.run("auto", ASKS | {"byfahrer.frontend": "auto"}, published={8443: (":8443",)})
    world.engine.run("inside", ASKS)
    world.engine.run("past", ASKS, published={8080: ("0.0.0.0:80", ":::80")})
    first, second = await world.bad("ports")

    assert first == (
        "warning",
        (
            "'past' publishes 8080 at 0.0.0.0:80, :::80, but not its sidecar's :8081: "
            "publish that on the target (-p 8081:8081)"
        ),
    )
    assert second[1].startswith(
        "'past' publishes its plain port 8080 at 0.0.0.0:80, :::80: whoever calls it there goes"
    )


async def test_a_target_that_publishes_nothing_is_a_hint_and_no_more(world):
    world.engine.run("www", ASKS)
    world.engine.run("task", ASKS | {"com.docker.swarm.service.id": "svc"})
    found = [each for each in await world.findings() if each.check == "ports"]

    assert found == [Finding("ports", Level.OK, "'www' publishes no port: reachable from its networks only")]


async def test_ports_that_a_sidecar_may_not_bind(world):
    world.engine.run("www", ASKS | {"byfahrer.frontend": ":443"}, first_port=1024)
    world.engine.run("high", ASKS, first_port=1024)
    ((level, text),) = await world.bad("ports")

    assert level == "problem"
    assert "'www' has net.ipv4.ip_unprivileged_port_start=1024, so its sidecar cannot bind :443" in text


async def test_labels_that_ask_for_nothing(world):
    own = {"byfahrer.frontend": ":443", "org.qnib.byfahrer.mode": "tcp"}
    world.engine.run("www", own, inherited=frozenset(own))
    world.engine.run("lone", {"byfahrer.memory": "64m"})
    world.engine.run("off", {"byfahrer.enable": "false"})
    world.engine.run("plain", {"com.example": "x"})
    hand = world.engine.run("hand", {"byfahrer.names": "x"})
    await Reconciler(world.engine, world.policy).reconcile(hand, wish_by_hand("sslterm", {}))
    (found,) = await world.bad("labels")

    (lone,) = await world.bad("targets")
    assert lone[1].startswith("'lone' gets no sidecar: byfahrer.memory='64m': expected byfahrer.proxy-image beside it")
    assert found[1].startswith("'www' has byfahrer.frontend, org.qnib.byfahrer.mode, but no byfahrer.proxy-image")


async def test_what_is_left_over(world):
    key = world.engine.run("www", ASKS)
    sidecar = await world.serve(key)
    world.engine.run("liar", {"byfahrer.target": key})
    old = world.engine.all[sidecar]
    world.engine.all[sidecar] = replace(old, labels=dict(old.labels) | {"byfahrer.version": "0.0.1\n"})
    stray, version = await world.bad("leftovers")
    world.engine.delete(key)
    found = [text for _, text in await world.bad("leftovers")]

    assert stray[1].startswith("'liar' has the label byfahrer.target and shares the network of no such container")
    assert version[1].startswith(r"1 sidecar(s) made by byfahrer 0.0.1\n, and we are ")
    assert [text for text in found if text.startswith("'www-proxy' has no target that runs: byfahrer run removes it")]


async def test_two_daemons_on_one_engine_are_told_of(world):
    image = {"org.opencontainers.image.title": "byfahrer"}
    own, other = world.engine.run("byfahrer", image), world.engine.run("byfahrer_byfahrer.1", image)
    world.engine.run("www", {"org.opencontainers.image.title": "www"})
    listed = await world.engine.containers()
    (told,) = doctor.rivals(listed, own, answers=True)

    assert told.text.startswith("other containers of byfahrer run here: 'byfahrer_byfahrer.1'; only one of them may be")
    assert (
        list(doctor.rivals(listed, other, answers=False)) == []
    )  # a command in a container of its own, beside the daemon
    assert len(list(doctor.rivals(listed, "", answers=False))) == 1
    world.engine.down(own)
    assert list(doctor.rivals(await world.engine.containers(), other, answers=True)) == []


async def test_others_containers_are_none_of_our_business():
    world = World(only_label=("mine",))
    world.engine.run("bad", ASKS | {"byfahrer.mode": "x"})
    world.engine.run("liar", {"byfahrer.target": "a" * 64})
    world.engine.run("odd", {"byfahrer.frontend": ":443"})

    assert {each.level for each in await world.findings()} == {Level.OK}


def test_a_finding_is_one_line_and_only_a_problem_is_bad():
    ok, warning, problem = (Finding("x", level, "a\nb") for level in Level)

    assert str(problem) == r"problem  x          a\nb"
    assert problem.as_json() == {"check": "x", "level": "problem", "text": r"a\nb"}
    assert bad([ok, problem])
    assert not bad([ok, warning])
