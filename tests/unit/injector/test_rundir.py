"""Whether sidecars can have the folder with the authority's socket, and by which mount."""

from pathlib import Path

import pytest

from byfahrer import rundir
from byfahrer.model import Mount
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio
RUN = Path("/run/byfahrer")


@pytest.fixture
def anyio_backend():
    return "asyncio"


def inside(*mounts):
    """An engine, and the container on it that we are in."""
    engine = MemoryEngine()
    return engine, engine.run("byfahrer", mounts=mounts)


async def test_outside_of_containers_it_is_a_folder_of_the_host():
    engine = MemoryEngine()
    engine.where = "unix:///var/run/docker.sock"

    assert await rundir.shared(engine, Path("/tmp/x"), "") == Mount(
        kind="bind", source="/tmp/x", destination="/run/byfahrer"
    )


@pytest.mark.parametrize("where", ["tcp://10.0.0.1:2376", "https://engine:2376"])
async def test_an_engine_elsewhere_has_not_our_folder(where):
    engine = MemoryEngine()
    engine.where = where
    with pytest.raises(rundir.NotSharedError, match="may be on another machine"):
        await rundir.shared(engine, RUN, "")


@pytest.mark.parametrize(("kind", "source"), [("volume", "byfahrer-run"), ("volume", "a" * 64), ("bind", "/srv/run")])
async def test_in_a_container_it_is_what_is_mounted_there_and_sidecars_only_read_it(kind, source):
    engine, own = inside(
        Mount(kind="volume", source="other", destination="/var/lib/byfahrer", writable=True),
        Mount(kind=kind, source=source, destination="/run/byfahrer", writable=True),
    )

    assert await rundir.shared(engine, RUN, own) == Mount(kind=kind, source=source, destination="/run/byfahrer")


@pytest.mark.parametrize(
    "mounts",
    [
        (),
        (Mount(kind="tmpfs", source="", destination="/run/byfahrer", writable=True),),
        (Mount(kind="volume", source="v", destination="/run/byfahrer"),),
        (Mount(kind="volume", source="v", destination="/run", writable=True),),
    ],
    ids=["none", "tmpfs", "read-only", "above"],
)
async def test_without_a_volume_there_is_nothing_to_share_and_it_is_said_how_to(mounts):
    engine, own = inside(*mounts)
    with pytest.raises(rundir.NotSharedError, match=r"byfahrer: give it one .-v byfahrer-run:/run/byfahrer"):
        await rundir.shared(engine, RUN, own)


async def test_an_engine_that_does_not_know_us_is_another_ones():
    with pytest.raises(rundir.NotSharedError, match="does not know the container"):
        await rundir.shared(MemoryEngine(), RUN, "f" * 64)


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ((Mount(kind="volume", source="byfahrer", destination="/var/lib/byfahrer"),), True),
        ((Mount(kind="bind", source="/srv", destination="/var/lib/byfahrer"),), True),
        ((Mount(kind="volume", source="a" * 64, destination="/var/lib/byfahrer"),), False),
        ((), False),
    ],
)
async def test_what_is_kept_in_a_container_ends_with_it(mounts, expected):
    engine, own = inside(*mounts)

    assert await rundir.lasts(engine, Path("/var/lib/byfahrer"), own) is expected
    assert await rundir.lasts(engine, Path("/var/lib/byfahrer"), "")
