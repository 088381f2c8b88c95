"""Without a byte of space left, byfahrer does what needs none, says what fails, and goes on when there is some."""

from __future__ import annotations

import subprocess

import pytest

from lab.waiting import wait_until


def test_an_engine_without_space_is_told_of_and_its_sidecars_are_reaped(nested, nested_injector, fault):
    broken = fault(24, "the engine's disk is full while targets die, restart and start, then has space again",
                   "sidecars of the dead go; said in the engine's words; then all is made good")  # fmt: skip
    daemon = nested_injector().is_ready()
    dies, restarts, later = nested.run("dies"), nested.run("restarts"), nested.run("later", start=False)
    for each in (dies, restarts):
        nested.becomes_served(each)
    with nested.engine.full():
        nested.api.kill(dies)
        nested.is_left_alone(dies, 30)
        nested.api.restart(restarts, timeout=1)
        nested.api.start(later)
        daemon.says("no space left on device", seconds=60)
    broken.happens()
    broken.converges(nested, 90)

    assert len([line for line in daemon.saying("no space left") if "ERROR" in line]) <= 4
    assert daemon.saying("a bug of byfahrer") == []


@pytest.fixture
def small(home):
    """A state folder with room for a root and little else."""
    folder = home.path / "state"
    folder.mkdir(mode=0o700)
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", folder), check=True)
    yield folder
    subprocess.run(("umount", "--lazy", folder), check=True)


def test_a_state_folder_without_space_loses_nothing_that_is_in_it(lab, small, injector, fault):
    broken = fault(24, "the authority's folder is full while targets die, restart and start, then has space again",
                   "who runs is served, the dead are reaped, and root and ledger are whole afterwards")  # fmt: skip
    daemon = injector().is_ready()
    dies, restarts = lab.run("dies"), lab.run("restarts")
    for each in (dies, restarts):
        lab.becomes_served(each)
    root = (small / "ca.json").read_bytes()
    filler = small / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(1 << 20))
    lab.remove(dies)
    lab.is_left_alone(dies)
    lab.api.restart(restarts, timeout=1)
    lab.run("fresh")
    wait_until(lambda: lab.served(restarts), 60)
    filler.unlink()
    broken.happens()
    broken.converges(lab, 90)

    assert (small / "ca.json").read_bytes() == root
    assert daemon.saying("a bug of byfahrer") == []
    assert daemon.stop() == 0
    injector().is_ready()
    lab.run("after")
    broken.happens()
    broken.converges(lab)
