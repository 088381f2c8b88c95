"""What sidecars find in their volumes when they start: a token, and a folder of their own."""

from __future__ import annotations

import pytest

from byfahrer import settings
from byfahrer.engine.errors import RejectedError, UnreachableError
from byfahrer.model import File, Mount, Status
from byfahrer.reconcile.reconciler import Reconciler, UnmetError
from lab.reconciling import ASKS, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


AUTHORITY = Mount(kind="volume", source="byfahrer-run", destination="/run/byfahrer")


def trusting(**more):
    """A world with an authority; the token says whom it is for."""
    return World(lambda target, sidecar: f"{target[-2:]}-{sidecar[-2:]}", authority=AUTHORITY, **more)


def token_of(world, sidecar):
    return world.engine.files[sidecar.id, "/run/sslterm/token"]


async def test_a_sidecar_has_its_token_before_it_starts():
    world = trusting()
    key = world.engine.run("www", ASKS)
    world.engine.broken["start"] = [UnreachableError("gone")]
    with pytest.raises(UnreachableError):
        await world.look(key)
    (sidecar,) = world.engine.sidecars(key)

    assert sidecar.status is Status.CREATED
    assert token_of(world, sidecar) == File(
        path="token", content=f"{key[-2:]}-{sidecar.id[-2:]}".encode(), uid=64443, gid=64443, mode=0o400
    )


@pytest.mark.parametrize("user", ["tls", "12345"])
async def test_whoever_it_runs_as_can_read_its_token(user):
    world = trusting(sidecar_user=user)
    key = world.engine.run("www", ASKS)
    await world.look(key)
    file = token_of(world, world.engine.sidecars(key)[0])

    assert (file.uid, file.mode) == {"tls": (0, 0o444), "12345": (12345, 0o400)}[user]


async def test_a_token_that_got_lost_comes_with_the_next_start():
    world = trusting()
    key = world.engine.run("www", ASKS)
    world.engine.broken["put_files"] = [UnreachableError("gone")]
    with pytest.raises(UnreachableError):
        await world.look(key)
    (sidecar,) = world.engine.sidecars(key)
    assert not world.engine.files
    world.now += 60
    await world.look(key)

    assert world.engine.served(key)
    assert world.engine.sidecars(key)[0].id == sidecar.id
    assert token_of(world, sidecar)


async def test_a_token_that_cannot_be_delivered_leaves_no_container():
    world = trusting()
    key = world.engine.run("www", ASKS)
    world.engine.broken["put_files"] = [RejectedError(500, "container rootfs is marked read-only")]
    with pytest.raises(UnmetError, match="did not start: the engine answered 500"):
        await world.look(key)

    assert world.engine.sidecars(key) == []


async def test_a_restarted_sidecar_gets_its_token_again():
    world = trusting()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    world.engine.files.clear()
    world.now += 60
    world.engine.bounce(key)
    await world.look(key)

    assert token_of(world, world.engine.sidecars(key)[0])


async def test_what_a_sidecar_got_at_its_start_is_not_put_there_again():
    world = trusting()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    await world.look(key)

    assert world.engine.served(key)
    assert world.engine.calls["put_files"] == 1


async def test_a_sidecar_that_serves_gets_its_token_from_each_process_once():
    world = trusting()
    key = world.engine.run("www", ASKS)
    await world.look(key)
    before = world.reconciler
    world.reconciler = Reconciler(
        world.engine, settings.policy(authority=AUTHORITY), token=lambda *_: "by another key", clock=lambda: world.now
    )
    calls = world.engine.calls["put_files"]
    await world.look(key)
    await world.look(key)

    assert before is not world.reconciler
    assert token_of(world, world.engine.sidecars(key)[0]).content == b"by another key"
    assert world.engine.calls["put_files"] == calls + 1


async def test_without_an_authority_nothing_is_delivered():
    world = World()
    key = world.engine.run("www", ASKS)
    await world.look(key)

    assert world.engine.calls["put_files"] == 0


async def test_a_volume_for_acme_has_a_folder_of_the_sidecars_user():
    world = World()
    key = world.engine.run("www", ASKS | {"byfahrer.acme": "www.example.org"})
    await world.look(key)
    (sidecar,) = world.engine.sidecars(key)

    assert world.engine.files[sidecar.id, "/var/lib/sslterm/acme"] == File(
        path="acme", content=None, uid=64443, gid=64443, mode=0o700
    )
