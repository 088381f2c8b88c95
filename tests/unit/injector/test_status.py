"""What ps shows, and how."""

from dataclasses import replace

import anyio
import pytest

from byfahrer import settings, status
from byfahrer.labels import wish_by_hand
from byfahrer.reconcile.reconciler import Reconciler
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


class World:
    def __init__(self, **policy):
        self.policy = settings.policy(**policy)
        self.engine = MemoryEngine()
        self.reconciler = Reconciler(self.engine, self.policy)

    async def rows(self):
        return await status.rows(self.engine, self.policy)

    async def state(self):
        (row,) = await self.rows()
        return row.state


async def test_each_state_has_its_word():
    world = World()
    key = world.engine.run("www", ASKS)
    assert await world.state() == "missing"
    await world.reconciler.reconcile(key)
    assert await world.state() == "running"
    world.engine.bounce(key)
    assert await world.state() == "stale"
    world.engine.down(world.engine.sidecars(key)[0].id, code=2)
    assert await world.state() == "exited (2)"
    world.engine.down(key)
    assert await world.state() == "orphan"
    world.engine.delete(key)
    (row,) = await world.rows()
    assert (row.state, row.target) == ("orphan", "www")


async def test_a_refused_target_shows_why_and_one_that_asks_for_nothing_does_not_show():
    world = World()
    world.engine.run("bad", ASKS, network_mode="host")
    world.engine.run("plain")
    world.engine.run("task", {"com.docker.swarm.service.id": "svc"})
    (row,) = await world.rows()

    assert row.state == "refused"
    assert row.problems[0].startswith("--network host: expected")


async def test_addresses_and_hand_made_ones_are_shown():
    world = World()
    key = world.engine.run("db")
    await world.reconciler.reconcile(key, by_hand=wish_by_hand("sslterm", {"frontend": ":6380", "backend": ":6379"}))
    (row,) = await world.rows()

    assert (row.frontend, row.backend, row.manual) == (":6380", "127.0.0.1:6379", True)


async def test_only_what_is_covered_is_shown():
    world = World(only_label=("team=a",))
    other = World()
    other.engine = world.engine
    other.reconciler = Reconciler(world.engine, other.policy)
    mine, theirs = (world.engine.run(name, ASKS | {"team": name}) for name in ("a", "b"))
    for key in (mine, theirs):
        await other.reconciler.reconcile(key)
    world.engine.delete(theirs)

    assert [row.target for row in await world.rows()] == ["a"]
    assert [row.target for row in await other.rows()] == ["a", "b"]


def test_the_table_is_aligned_and_a_reason_makes_no_column_wider():
    found = [
        status.Row(target="www", target_id="1", sidecar="www-proxy", state="running", frontend=":8081",
                   backend="127.0.0.1:8080", since=10**9),
        status.Row(target="a-long-name", target_id="2", state="refused", problems=("for this long reason: " * 3,)),
    ]  # fmt: skip
    lines = status.table(found, now=200.0).splitlines()

    assert lines[0] == "TARGET       SIDECAR    STATE    FRONTEND -> BACKEND      SINCE"
    assert lines[1] == "www          www-proxy  running  :8081 -> 127.0.0.1:8080  3m ago"
    assert lines[2].startswith("a-long-name  -          refused: for this long reason: ")


def test_nothing_in_a_cell_ends_its_line():
    bad = "x\n\x1b[31mforged"
    found = [
        status.Row(target=bad, target_id="1", state="running", frontend=bad, backend=bad),
        status.Row(target=bad * 99, target_id="2", state="refused", problems=(bad,)),
    ]
    text = status.table(found, now=0)

    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 300


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s ago"), (119, "119s ago"), (7199, "119m ago"), (86400, "24h ago"), (864000, "10d ago")]
)
def test_ages_are_short(seconds, text):
    row = status.Row(target="x", target_id="1", state="running", since=10**9)

    assert row.cells(1.0 + seconds)[-1] == text


def test_json_has_a_time_people_can_read():
    row = status.Row(target="x", target_id="1", state="running", since=10**9)

    assert row.as_json()["since"] == "1970-01-01T00:00:01+00:00"
    assert status.Row(target="x", target_id="1", state="missing").as_json()["since"] is None


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ("", "running"),
        ("valid", "running"),
        ("expired", "running, certificate expired"),
        ("failing: the authority does not answer", "running, certificate failing"),
    ],
)
def test_a_certificate_that_is_in_trouble_shows_and_others_do_not(certificate, expected):
    row = status.Row(target="x", target_id="1", sidecar="x-proxy", state="running", certificate=certificate)

    assert row.cells(0)[2] == expected
    assert row.as_json()["certificate"] == certificate


def test_what_is_known_of_certificates_is_told_of_the_right_sidecars():
    async def rows():
        engine = MemoryEngine()
        key = engine.run("www", {"byfahrer.proxy-image": "sslterm"})
        await Reconciler(engine, settings.policy()).reconcile(key)
        (sidecar,) = engine.sidecars(key)
        return await status.rows(engine, settings.policy(), {sidecar.id: "valid", "other": "expired"})

    assert [row.certificate for row in anyio.run(rows)] == ["valid"]


async def told_rows(world, **target):
    """The one row there is, where the daemon says this of its target."""
    key, sidecar = world.key, world.engine.sidecars(world.key)[0]
    said = {"targets": [{"id": key, "sidecar_id": sidecar.id, **target}, {"id": 7}, "x"]}
    (row,) = await status.rows(world.engine, world.policy, {}, status.told(said))
    return row


async def served():
    world = World()
    world.key = world.engine.run("www", ASKS)
    await world.reconciler.reconcile(world.key)
    return world


@pytest.mark.parametrize(
    ("report", "cell"),
    [
        (None, "running"),
        ({"phase": "serving", "ready": True, "bypass": []}, "running"),
        ({"phase": "waiting", "ready": False, "fault": "waiting: nothing listens"}, "waiting: nothing listens"),
        ({"phase": "waiting", "ready": False, "fault": "waiting"}, "waiting"),
        ({"phase": "waiting", "fault": 5}, "waiting"),
        ({"phase": "waiting", "fault": "a\nb"}, r"waiting: a\nb"),
        ({"phase": "serving", "ready": False, "fault": "certificate: expired"}, "unhealthy: certificate: expired"),
        ({"phase": "serving", "ready": True, "bypass": ["0.0.0.0:80"]}, "running, bypass 0.0.0.0:80"),
        ({"phase": "serving", "bypass": ["0.0.0.0:80", "[::]:80"]}, "running, bypass 0.0.0.0:80, …"),
        ({"phase": 1, "ready": "no", "bypass": 5}, "running"),
        ("odd", "running"),
    ],
)
async def test_what_a_sidecar_reports_to_the_daemon_shows(report, cell):
    row = await told_rows(await served(), report=report)

    assert row.cells(0)[2] == cell


async def test_a_report_of_another_sidecar_is_not_believed():
    row = await told_rows(await served(), sidecar_id="other", report={"phase": "waiting"})

    assert row.state == "running"


async def test_what_only_the_daemon_knows_shows_once_and_without_the_name_again():
    problem = "port conflict: frontend-addr=:8081: already in use"
    row = await told_rows(await served(), problems=[f"'www': {problem}", f"'www': {problem}", 5])

    assert row.cells(0)[2] == f"running: {problem}"
    assert row.as_json()["problems"] == (problem,)


@pytest.mark.parametrize("said", [None, [], "x", {}, {"targets": 1}, {"targets": [{}]}])
def test_a_daemon_that_says_nothing_of_use_is_no_trouble(said):
    assert status.told(said) == {}


async def test_the_last_words_of_a_sidecar_that_ended_show():
    world = await served()
    (sidecar,) = world.engine.sidecars(world.key)
    world.engine.down(sidecar.id, code=1)
    world.engine.words = "frontend-addr=:8081: already in use"
    (row,) = await world.rows()
    assert row.cells(0)[2] == "exited (1): its last words: frontend-addr=:8081: already in use"

    told = await told_rows(world, problems=["'www': port conflict: frontend-addr=:8081: already in use"])
    assert told.cells(0)[2] == "exited (1): port conflict: frontend-addr=:8081: already in use"


async def test_one_that_the_engine_finds_unhealthy_shows():
    world = await served()
    (sidecar,) = world.engine.sidecars(world.key)
    world.engine.all[sidecar.id] = replace(sidecar, health="unhealthy")

    assert await world.state() == "unhealthy"
