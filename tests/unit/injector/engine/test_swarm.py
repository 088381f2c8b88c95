"""What `byfahrer swarm` asks of a manager: as the API has it, and nothing of another's is overwritten."""

import base64
import json

import pytest

from byfahrer.engine.address import EngineAddress
from byfahrer.engine.errors import UnusableError
from byfahrer.engine.swarm import ManagingEngine
from lab.stub_engine import StubEngine, serving

pytestmark = pytest.mark.anyio
SERVICE = "s" * 25
FILE = "/run/secrets/byfahrer-ca"


class Stub(StubEngine):
    """A manager with one secret and one service, which keeps what it was sent."""

    def told(self, method, path, body):
        secret = {"ID": "old", "CreatedAt": "2026-01-01T00:00:00.5Z", "Spec": {"Name": "byfahrer-ca", "Labels": {}}}
        newer = {"ID": "newer", "CreatedAt": "2026-01-02T00:00:00Z", "Spec": {"Name": "a", "Labels": {"x": "y"}}}
        known = {
            "GET": {
                "/version": {"ApiVersion": "1.41"}, "/secrets": [newer, secret],
                "/secrets/old": {"ID": "old", "Spec": {"Name": "byfahrer-ca", "Labels": {"byfahrer.ca": "root"}}},
                f"/services/{SERVICE}": {
                    "ID": SERVICE, "Version": {"Index": 7},
                    "Spec": {
                        "Name": "byfahrer_byfahrer", "Labels": {"a": "b"}, "Mode": {"Global": {}},
                        "TaskTemplate": {
                            "ContainerSpec": {
                                "Image": "byfahrer", "Env": ["X=y"],
                                "Secrets": [{"SecretID": "old", "SecretName": "byfahrer-ca", "File": {"Name": FILE}}],
                            }
                        },
                    },
                },
            },
            "POST": {"/secrets/create": {"ID": "new"}, f"/services/{SERVICE}/update?version=7": {}},
            "DELETE": {"/secrets/old": {}},
        }[method].get(path.partition("?insertDefaults")[0], {})  # fmt: skip
        if method != "GET":
            self.server.sent.append((method, path, json.loads(body) if body else None))
        return 200, known


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def stub():
    with serving(Stub, sent=[]) as server:
        yield server


@pytest.fixture
async def engine(stub):
    made = ManagingEngine(EngineAddress(f"tcp://127.0.0.1:{stub.server_port}", api_version="1.41"))
    await made.connect()
    return made


async def test_a_secret_is_made_with_its_content_and_labels(engine, stub):
    found = await engine.secrets()
    made = await engine.create_secret("byfahrer-ca-2", b"content", {"byfahrer.ca": "x"})
    await engine.remove_secret("old")

    assert list(found.items()) == [("byfahrer-ca", {}), ("a", {"x": "y"})]
    assert made == "new"
    assert stub.sent == [
        (
            "POST", "/secrets/create",
            {"Name": "byfahrer-ca-2", "Data": base64.b64encode(b"content").decode(), "Labels": {"byfahrer.ca": "x"}},
        ),
        ("DELETE", "/secrets/old", None),
    ]  # fmt: skip


async def test_a_service_gets_another_secret_in_the_same_file_and_keeps_all_else(engine, stub):
    before = await engine.exchange_secret(SERVICE, FILE, "byfahrer-ca-2", "new", present=("byfahrer.ca", "root"))
    ((_, path, spec),) = stub.sent

    assert before == "byfahrer-ca"
    assert path.endswith("?version=7")
    assert (spec["Name"], spec["Labels"], spec["Mode"]) == ("byfahrer_byfahrer", {"a": "b"}, {"Global": {}})
    assert spec["TaskTemplate"]["ContainerSpec"] == {
        "Image": "byfahrer",
        "Env": ["X=y"],
        "Secrets": [{"SecretID": "new", "SecretName": "byfahrer-ca-2", "File": {"Name": FILE}}],
    }


async def test_a_service_without_that_secret_is_left_alone(engine, stub):
    with pytest.raises(UnusableError, match="service byfahrer_byfahrer has no secret in /elsewhere"):
        await engine.exchange_secret(SERVICE, "/elsewhere", "byfahrer-ca-2", "new", present=("byfahrer.ca", "root"))

    assert stub.sent == []


async def test_a_rotation_of_what_somebody_else_has_rotated_already_changes_nothing(engine, stub):
    with pytest.raises(UnusableError, match=r"another secret by now \(byfahrer-ca\): wait for its new tasks"):
        await engine.exchange_secret(SERVICE, FILE, "byfahrer-ca-2", "new", present=("byfahrer.ca", "the one before"))

    assert stub.sent == []
