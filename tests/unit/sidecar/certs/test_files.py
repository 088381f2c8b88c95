"""A pair of files: reading it, and seeing it replaced in every way in which people replace it."""

from __future__ import annotations

import os

import anyio
import pytest

from lab.certificates import make
from sslterm.certs.bundle import Rejected
from sslterm.certs.files import FilePair

FIRST, SECOND = make("first"), make("second")
TICK = 0.01


def write_over(directory):
    SECOND.write(directory)


def rename_into_place(directory):
    fresh = directory / "fresh"
    SECOND.write(fresh)
    for name in ("cert.pem", "key.pem"):
        (fresh / name).rename(directory / name)


def switch_a_symlink_above(directory):
    SECOND.write(directory / "v2")
    (directory / "next").symlink_to("v2")
    (directory / "next").rename(directory / "now")


def symlinked(directory):
    FIRST.write(directory / "v1")
    (directory / "now").symlink_to("v1")
    return directory / "now" / "cert.pem", directory / "now" / "key.pem"


@pytest.mark.parametrize(
    ("prepare", "replace"),
    [(FIRST.write, write_over), (FIRST.write, rename_into_place), (symlinked, switch_a_symlink_above)],
    ids=["written over", "renamed", "symlink above"],
)
def test_each_way_of_replacing_is_seen(tmp_path, prepare, replace):
    async def run():
        pair = FilePair(*prepare(tmp_path), interval=TICK)
        before = (await pair.obtain()).pairs[0]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pair.changed)
            await anyio.sleep(3 * TICK)
            replace(tmp_path)
        return before, (await pair.obtain()).pairs[0]

    before, after = anyio.run(run)

    assert (before.chain, before.key) == (FIRST.cert, FIRST.key)
    assert (after.chain, after.key) == (SECOND.cert, SECOND.key)


def test_a_replacement_is_taken_up_when_it_stopped_changing(tmp_path):
    """The key follows the certificate: one change, not two, and no look at the half of it."""
    pair = FilePair(*FIRST.write(tmp_path), interval=TICK)
    stamps = iter(["a", "a", "b", "c", "c"])
    pair._stamp = lambda: next(stamps)  # type: ignore[method-assign]

    async def run():
        await pair.obtain()
        await pair.changed()

    anyio.run(run)

    assert next(stamps, None) is None


def test_what_was_read_is_not_reported_again(tmp_path):
    async def run():
        pair = FilePair(*FIRST.write(tmp_path), interval=TICK)
        await pair.obtain()
        SECOND.write(tmp_path)
        await pair.changed()
        await pair.obtain()
        with anyio.move_on_after(10 * TICK) as scope:
            await pair.changed()
        return scope.cancelled_caught

    assert anyio.run(run)


def test_a_file_that_vanishes_is_a_change_too(tmp_path):
    async def run():
        pair = FilePair(*FIRST.write(tmp_path), interval=TICK)
        await pair.obtain()
        (tmp_path / "key.pem").unlink()
        await pair.changed()
        await pair.obtain()

    with pytest.raises(Rejected, match=r"key\.pem: no such file"):
        anyio.run(run)


def prepare_missing(path):
    pass


def prepare_directory(path):
    path.mkdir()


def prepare_pipe(path):
    os.mkfifo(path)


def prepare_large(path):
    path.write_bytes(b"x" * (1024 * 1024 + 1))


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (prepare_missing, "no such file"),
        (prepare_directory, "a directory (the engine makes one"),
        (prepare_pipe, "a pipe, socket or device, not a file"),
        (prepare_large, "1048577 bytes, too large"),
    ],
)
def test_what_cannot_be_read_names_file_and_reason(tmp_path, prepare, reason):
    cert, key = tmp_path / "c", FIRST.write(tmp_path)[1]
    prepare(cert)
    with pytest.raises(Rejected) as error:
        anyio.run(FilePair(cert, key).obtain)

    assert str(error.value).startswith(f"{cert}: {reason}")
