"""What is known of services while the Swarm itself cannot say: what a directory has, where there is one."""

import threading

import anyio
import pytest

from byfahrer.engine import client, services
from byfahrer.engine.address import EngineAddress
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.errors import RejectedError, UnreachableError, UnusableError
from byfahrer.model import Service, SidecarSpec
from byfahrer.swarm.directory import Directory
from lab.stub_engine import StubEngine, serving

pytestmark = pytest.mark.anyio
ID = "s" * 25
KNOWN = Service(labels={"byfahrer.mode": "tcp"}, addresses=(), secrets={})
TOLD = Service(labels={"byfahrer.mode": "http"}, addresses=(), secrets={})


class Stub(StubEngine):
    """A node of a Swarm that answers about services with `server.status`, or keeps one waiting."""

    def told(self, method, path, body):
        if method == "POST":
            return 400, {"message": self.server.refusal}
        if path == "/info":
            return 200, {"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}
        if not path.startswith("/services"):
            return 200, {"ApiVersion": "1.41"}
        self.server.asked.append(path)
        self.server.answers.wait(10)
        if self.server.status != 200:
            return self.server.status, {"message": "no leader"}
        one = {"ID": ID, "Spec": {"Name": "web", "Labels": dict(TOLD.labels), "TaskTemplate": {}}}
        return 200, [one] if path == "/services" else one


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def stub():
    answers = threading.Event()
    answers.set()
    with serving(Stub, asked=[], status=200, answers=answers) as server:
        yield server
        answers.set()


@pytest.fixture
def directory():
    made = Directory()
    made.hear({ID: KNOWN})
    return made


@pytest.fixture
async def engine(stub, directory):
    made = DockerEngine(
        EngineAddress(f"tcp://127.0.0.1:{stub.server_port}", api_version="1.41"), directory=directory
    )  # fmt: skip
    await made.connect()
    return made


async def test_a_manager_tells_and_the_directory_learns(engine, directory):
    assert await engine.services() == {ID: TOLD}
    assert directory.services() == {ID: TOLD}
    assert directory.manages
    assert await engine.service(ID) == TOLD


@pytest.mark.parametrize("status", [406, 503, 500])
async def test_a_node_that_is_no_manager_or_has_no_leader_goes_by_the_directory(engine, directory, stub, status):
    await engine.services()
    directory.hear({ID: KNOWN})
    stub.status = status

    assert await engine.services() == {ID: KNOWN}
    assert await engine.service(ID) == KNOWN
    assert await engine.service("t" * 25) is None
    assert not directory.manages


async def test_a_swarm_that_keeps_one_waiting_is_asked_by_one_look_and_not_by_all(engine, stub, monkeypatch):
    monkeypatch.setattr(services, "PATIENCE", 0.05)
    stub.answers.clear()
    assert await engine.service(ID) == KNOWN
    monkeypatch.setattr(services, "PATIENCE", 30)
    engine._services._leaderless_until += 30
    assert [await engine.service(ID) for _ in range(9)] == [KNOWN] * 9
    assert len(stub.asked) == 1

    stub.answers.set()
    assert await engine.services() == {ID: TOLD}  # a list asks all the same, and then all is well
    assert await engine.service(ID) == TOLD


async def test_waiting_for_ones_turn_says_nothing_about_the_swarm(engine, directory, monkeypatch):
    monkeypatch.setattr(services, "PATIENCE", 0.2)
    directory.hear({})
    busy = threading.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(client.CALLS):
            tasks.start_soon(engine._call, lambda _: busy.wait(10))
        asked = []

        async def ask():
            asked.append(await engine.service(ID))

        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask)
        await anyio.sleep(0.5)
        busy.set()

    assert asked == [TOLD]


async def test_a_node_whose_engine_is_away_tells_nobody_any_more(engine, directory, stub):
    await engine.services()
    stub.status = 200
    engine._client.base_url = "http://127.0.0.1:1"
    with pytest.raises(UnreachableError):
        await engine.services()
    assert not directory.manages

    directory.learn({ID: TOLD})
    away = DockerEngine(EngineAddress("tcp://127.0.0.1:1", api_version="1.41"), directory=directory)
    with pytest.raises(UnreachableError):
        await away.connect()
    assert not directory.manages


@pytest.mark.parametrize("status", [500, 503])
async def test_without_a_directory_it_is_an_error(stub, status):
    engine = DockerEngine(EngineAddress(f"tcp://127.0.0.1:{stub.server_port}", api_version="1.41"))
    await engine.connect()
    stub.status = status

    with pytest.raises(RejectedError, match="no leader"):
        await engine.services()
    with pytest.raises(RejectedError, match="no leader"):
        await engine.service(ID)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        (
            "/var/lib/docker/containers/x/mounts/secrets/id",
            UnusableError,
            "without the secret that its service has now",
        ),
        ("/x", RejectedError, "source path does not exist: /x"),
    ],
)
async def test_a_task_without_the_secret_that_its_service_has_now_is_told_as_that(engine, stub, source, error, says):
    stub.refusal = f"bind source path does not exist: {source}"
    with pytest.raises(error, match=says):
        await engine.create("www-proxy", "a" * 64, SidecarSpec(image="sslterm", env={}, user="1:1", memory=1), {})
