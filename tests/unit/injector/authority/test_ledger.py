"""Who holds what is kept over restarts, written seldom, and forgotten when it is over."""

import dataclasses
import datetime as dt

import anyio
import pytest

from byfahrer.authority import ledger as module
from byfahrer.authority.errors import StateError
from byfahrer.authority.ledger import FILE, Holder, Ledger, content_of, read
from byfahrer.authority.state import StateFolder
from lab.authority import NOW
from lab.waiting import until

LATER, EARLIER = "2026-11-25T12:00:00Z", "2026-11-23T12:00:00Z"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def folder(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


def holder(number=1, **fields):
    return Holder(target=f"t{number}", target_id=f"t{number}", sidecar_id=f"s{number}", **fields)


@pytest.mark.anyio
async def test_what_changed_is_written_soon_and_again_at_the_end(folder):
    ledger = Ledger(folder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.run)
        ledger.put(holder(1, names=["a"], denied={"x": 1}, not_after=LATER))
        await until(lambda: folder.read(FILE) is not None)
        ledger.put(holder(2))
        tasks.cancel_scope.cancel()

    assert list(Ledger(folder)) == [holder(1, names=["a"], denied={"x": 1}, not_after=LATER), holder(2)]


@pytest.mark.anyio
async def test_many_changes_are_one_write(folder, monkeypatch):
    writes = []
    write = StateFolder.write
    monkeypatch.setattr(StateFolder, "write", lambda self, *args: (writes.append(1), write(self, *args)))
    ledger = Ledger(folder)
    for number in range(1000):
        ledger.put(holder(number))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.run)
        await until(lambda: len(read(folder, FILE)) == 1000)
        tasks.cancel_scope.cancel()

    assert len(writes) == 1


@pytest.mark.anyio
async def test_a_disk_that_is_full_is_told_and_stops_nothing(folder, monkeypatch, said):
    def full(self, *args):
        raise StateError("ledger.json: No space left on device")

    monkeypatch.setattr(StateFolder, "write", full)
    ledger = Ledger(folder)
    ledger.put(holder())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ledger.run)
        await until(lambda: said)
        tasks.cancel_scope.cancel()

    assert said == ["Who holds which certificate could not be noted: ledger.json: No space left on device"]


def test_the_dead_are_forgotten_when_their_certificate_ends(folder):
    ledger = Ledger(folder)
    ledger.put(holder(1, not_after=LATER))
    ledger.put(holder(2, not_after=EARLIER))
    ledger.put(holder(3))
    ledger.put(holder(4, not_after="9999-01-01T00:00:00Z", source="files"))
    ledger.living("t4", ())
    ledger.living("t1", ())
    ledger.living("t2", ["s2"])
    ledger.living("t3", ())
    ledger.prune(NOW)
    assert [(each.sidecar_id, each.gone) for each in ledger] == [("s1", True), ("s2", False)]
    ledger.living("t1", ["s1"])
    assert not ledger.of("s1").gone
    ledger.living("t1", ["other"])
    ledger.prune(NOW + dt.timedelta(days=2))

    assert [each.sidecar_id for each in ledger] == ["s2"]


def test_there_are_so_many_at_most_and_the_dead_go_first(folder, monkeypatch):
    monkeypatch.setattr(module, "MOST", 2)
    ledger = Ledger(folder)
    ledger.put(holder(1, not_after=EARLIER))
    ledger.put(holder(2, not_after=LATER, gone=True))
    ledger.put(holder(3, not_after=LATER))

    assert [each.sidecar_id for each in ledger] == ["s1", "s3"]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"not_after": LATER}, "valid"),
        ({"not_after": EARLIER}, "expired"),
        ({"not_after": LATER, "gone": True}, "gone"),
        ({"not_after": LATER, "failing": "no socket"}, "failing: no socket"),
        ({}, "waiting"),
    ],
)
def test_states(fields, state):
    assert holder(**fields).state(NOW) == state


BAD = [
    b"", b"{", b"[]", b'{"form": 1}', b'{"form": 1, "holders": [1]}', b'{"form": 1, "holders": [{}]}',
    b'{"form": 1, "holders": [{"target": 1}]}', b'{"form": 1, "holders": [{"target": "a", "not_after": "x"}]}',
    b'{"form": 1, "holders": [{"target": "a", "not_after": "2026-01-01T00:00:00"}]}', b'{"form": 2, "holders": []}',
]  # fmt: skip


@pytest.mark.parametrize("content", BAD)
def test_a_damaged_file_is_told_kept_aside_and_begun_anew(folder, content, said):
    folder.write(FILE, content)
    with pytest.raises(StateError, match=r"ledger\.json: "):
        read(folder, FILE)
    assert list(Ledger(folder)) == []

    assert len(said) == 1
    assert (folder.path / f"{FILE}.damaged").read_bytes() == content


def test_what_a_newer_byfahrer_wrote_beside_is_left_out(folder):
    folder.write(FILE, content_of([holder()]).replace(b'"target": "t1"', b'"target": "t1", "new": 1'))

    assert read(folder, FILE) == [holder()]


def test_fields_have_the_types_that_are_checked():
    assert {type(each.default) for each in dataclasses.fields(Holder)} >= {str, int, bool}
