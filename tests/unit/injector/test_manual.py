"""inject and eject on an engine in memory."""

import socket
import tempfile

import pytest

from byfahrer import manual, settings
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import Bearer, Tokens
from byfahrer.engine.errors import PullError
from byfahrer.labels import wish_by_hand
from byfahrer.manual import Ejected, ManualError
from byfahrer.model import Mount
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}
POLICY = settings.policy()
WISH = wish_by_hand("sslterm", {"mode": "tcp"})


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def settled_soon(monkeypatch):
    monkeypatch.setattr("byfahrer.manual.SETTLED", 0.01)


@pytest.fixture
def engine():
    return MemoryEngine()


async def test_inject_returns_the_sidecar_that_runs(engine):
    key = engine.run("db")
    sidecar = await manual.inject(engine, POLICY, "db", WISH)

    assert engine.served(key)
    assert sidecar.name == "db-proxy"
    assert await manual.inject(engine, POLICY, "db", WISH) == sidecar


async def test_another_wish_is_another_sidecar(engine):
    key = engine.run("db")
    first = await manual.inject(engine, POLICY, "db", WISH)
    second = await manual.inject(engine, POLICY, "db", wish_by_hand("sslterm", {}))

    assert first.id != second.id
    assert engine.served(key)


async def test_a_target_with_labels_is_taken_at_its_word(engine):
    engine.run("www", ASKS)

    assert await manual.labelled(engine, "www")
    with pytest.raises(ManualError, match="leave out --image and --set"):
        await manual.inject(engine, POLICY, "www", WISH)
    assert (await manual.inject(engine, POLICY, "www", {})).name == "www-proxy"


@pytest.mark.parametrize(
    ("name", "wish", "says"),
    [
        ("nobody", WISH, "there is no container 'nobody' on the engine at memory"),
        ("plain", {}, "'plain' has no label byfahrer.proxy-image"),
        ("stopped", WISH, r"'stopped' does not run \(exited\): start it first"),
        ("plain", wish_by_hand("sslterm", {"mode": "x"}), "'plain': byfahrer.mode='x': expected http or tcp"),
        ("www-proxy", WISH, "'www-proxy' is a sidecar itself"),
    ],
)
async def test_what_cannot_be_done_is_said(engine, name, wish, says):
    engine.run("plain")
    engine.run("www", ASKS)
    await manual.inject(engine, POLICY, "www", {})
    engine.down(engine.run("stopped"))
    with pytest.raises(ManualError, match=says):
        await manual.inject(engine, POLICY, name, wish)


async def test_a_missing_image_is_said(engine):
    engine.run("plain")
    with pytest.raises(PullError, match="image 'none' is not on this engine"):
        await manual.inject(engine, POLICY, "plain", wish_by_hand("none", {}))


async def test_a_sidecar_that_exits_at_once_is_told_with_its_last_words(engine):
    engine.run("plain")
    engine.words = "no"
    start = engine.start

    async def start_and_die(container_id):
        await start(container_id)
        engine.down(container_id, code=2)

    engine.start = start_and_die
    with pytest.raises(ManualError, match="'plain-proxy' exited with code 2: no"):
        await manual.inject(engine, POLICY, "plain", WISH)


async def test_eject_by_either_name_and_says_whether_it_comes_back(engine):
    engine.run("www", ASKS)
    engine.run("db")
    for name, wish in (("www", {}), ("db", WISH)):
        await manual.inject(engine, POLICY, name, wish)

    assert await manual.eject(engine, "www") == [Ejected("www-proxy", "www", asked_for=True)]
    assert await manual.eject(engine, "db-proxy") == [Ejected("db-proxy", "db", asked_for=False)]
    with pytest.raises(ManualError, match="'db' has no sidecar of ours"):
        await manual.eject(engine, "db")


async def test_eject_all_takes_orphans_too_and_only_ours(engine):
    keys = [engine.run(name, ASKS) for name in ("one", "two")]
    for name in ("one", "two"):
        await manual.inject(engine, POLICY, name, {})
    engine.delete(keys[0])
    stranger = engine.run("stranger")
    forged = engine.run("forged", {"byfahrer.target": keys[1]})
    gone = await manual.eject_all(engine, POLICY)

    assert gone == [Ejected("one-proxy", "one", asked_for=False), Ejected("two-proxy", "two", asked_for=True)]
    assert set(engine.all) == {keys[1], stranger, forged}


async def test_beside_an_authority_a_sidecar_gets_a_token_as_the_daemon_would_give_it(engine):
    engine.where = "unix:///var/run/docker.sock"
    key = engine.run("db")
    chosen = settings.authority(run_dir="/run/x", state_dir="/var/x")
    trusting = await manual.with_authority(engine, POLICY, chosen, "")
    sidecar = await manual.inject(engine, trusting, "db", WISH, lambda target, sidecar: f"{target} {sidecar}")

    assert sidecar.mounts[0] == Mount(kind="bind", source="/run/x", destination="/run/byfahrer")
    assert engine.files[sidecar.id, "/run/sslterm/token"].content.decode() == f"{key} {sidecar.id}"


async def test_where_it_cannot_be_shared_or_is_not_wanted_the_policy_stays(engine):
    chosen = settings.authority(run_dir="/run/x", state_dir="/var/x")

    assert await manual.with_authority(engine, POLICY, chosen, "") == POLICY
    assert await manual.with_authority(engine, POLICY, None, "") == POLICY


def test_tokens_are_made_where_an_authority_serves_and_only_there():
    with tempfile.TemporaryDirectory(prefix="byf-") as folder, socket.socket(socket.AF_UNIX) as serving:
        chosen = settings.authority(run_dir=folder, state_dir=f"{folder}/state")
        assert manual.token_maker(None) is None
        assert manual.token_maker(chosen) is None
        serving.bind(f"{folder}/authority.sock")
        assert manual.token_maker(chosen) is None
        serving.listen()
        make = manual.token_maker(chosen)

        assert Tokens.load(StateFolder(chosen.state_dir)).read(make("a" * 64, "b" * 64)) == Bearer("a" * 64, "b" * 64)
