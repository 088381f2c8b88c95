"""What is known of services is kept, told apart from what is gone, and read with care."""

import json

import anyio
import pytest
from loguru import logger

from byfahrer.authority.state import StateFolder
from byfahrer.model import Service
from byfahrer.swarm import directory as module
from byfahrer.swarm.directory import FILE, Directory, DirectoryError, read

pytestmark = pytest.mark.anyio

WEB = Service(labels={"byfahrer.proxy-image": "sslterm"}, addresses=("10.0.1.2",))
API = Service(labels={"byfahrer.mode": "tcp"})


@pytest.fixture
def folder(tmp_path):
    made = StateFolder(tmp_path / "state")
    made.prepare()
    return made


def test_a_service_that_is_not_known_yet_or_gone_is_none():
    known = Directory()
    before = known.service("web")
    known.hear({"web": WEB})
    there = known.service("web")
    known.hear({"api": API})
    gone = known.service("web")
    known.hear({"web": WEB})

    assert (before, there, gone, known.service("web")) == (None, WEB, None, WEB)
    assert dict(known.services()) == {"web": WEB}


async def test_who_waits_for_news_is_woken_by_news_only():
    known = Directory()
    known.hear({"web": WEB})
    waiting = known.changed
    known.hear({"web": WEB})
    quiet = waiting.is_set()
    known.hear({"web": API})

    assert (quiet, waiting.is_set(), known.changed.is_set()) == (False, True, False)
    with anyio.fail_after(1):
        await waiting.wait()


def test_the_mark_is_the_same_wherever_the_same_is_known():
    one, other = Directory(), Directory()
    one.hear({"a": Service(labels={"byfahrer.x": "1", "byfahrer.y": "2"}), "b": API})
    other.hear({"b": API, "a": Service(labels={"byfahrer.y": "2", "byfahrer.x": "1"})})
    before = other.mark
    other.hear({"b": API, "a": Service(labels={"byfahrer.y": "2"}, addresses=("10.0.0.1",))})

    assert one.mark == before != other.mark


def test_labels_that_are_nobodys_business_are_left_out():
    carried = {
        "byfahrer.mode": "tcp", "org.qnib.byfahrer.backend": ":80", "org.qnib.gosslterm.ssl.volume.from": "true",
        "team": "a", "password": "x", "byfahrer.target": "y",
    }  # fmt: skip
    known = Directory(more=["team"])
    known.learn({"web": Service(labels=carried)})

    assert set(known.service("web").labels) == set(carried) - {"password", "byfahrer.target"}


def test_the_next_process_knows_it_too_and_a_command_beside_it(folder):
    Directory(folder).hear({"web": WEB})
    again, beside = Directory(folder), Directory.kept(folder)

    assert again.service("web") == beside.service("web") == WEB
    assert again.mark
    assert not again.manages
    beside.hear({})
    assert Directory(folder).service("web") == WEB


def test_what_is_damaged_is_told_and_asked_for_again(folder):
    lines = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    for content in (b"{", b"[]", b'{"form": 2}', b'{"form": 1, "services": []}', b"\xff", b"[" * 100_000):
        folder.write(FILE, content)
        assert dict(Directory(folder).services()) == {}
        assert Directory.kept(folder) is None
    logger.remove(sink)

    assert len(lines) == 6
    assert all("managers are asked" in line for line in lines)


def test_a_full_disk_costs_nothing_but_the_next_start(folder, monkeypatch):
    known = Directory(folder)
    folder.path.chmod(0o700)
    monkeypatch.setattr(module.StateFolder, "write", _full)
    known.hear({"web": WEB})

    assert known.service("web") == WEB


def _full(self, name, content):
    raise module.StateError(f"{name}: No space left on device")


def test_nothing_is_kept_where_nothing_has_been(folder):
    assert Directory.kept(folder) is None


@pytest.fixture
def errors():
    lines = []
    sink = logger.add(lambda line: lines.append(str(line).rstrip("\n")), format="{message}", level="ERROR")
    yield lines
    logger.remove(sink)


def test_one_service_that_is_too_large_keeps_no_other_from_being_told_of(errors):
    secrets = {f"{number:08}": "s" * 25 for number in range(5000)}
    huge = Service(labels={"byfahrer.x": "y" * module.MOST_OF_ONE}), Service(secrets=secrets)
    known = Directory()
    for _ in range(3):
        known.hear({"a": huge[0], "b": huge[1], "web": WEB, "z": API})
        known.hear({"a": huge[0], "b": huge[1], "web": WEB})

    assert dict(known.services()) == {"web": WEB}
    assert errors == [
        "2 service(s) are too large to be told of (a, b): expected at most 65536 characters on each, 4194304 in all"
    ]


def test_of_all_too_many_the_largest_are_left_out(folder, errors):
    middling = Service(labels={"byfahrer.x": "y" * (module.MOST_OF_ONE - 100)})
    known = Directory(folder)
    known.hear({f"{number:03}": middling for number in range(300)} | {"web": WEB})
    again = Directory(folder)

    assert known.service("web") == again.service("web") == WEB
    assert again.mark == known.mark
    assert 60 < len(known.services()) < 70
    assert len(errors) == 1


def test_there_is_an_end_to_their_number(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    known = Directory()
    known.hear({str(number): WEB for number in range(9)})

    assert len(known.services()) == 3


def test_an_address_that_is_none_is_nobodys_name():
    known = Directory()
    known.hear({"web": Service(addresses=("10.0.0.9", "bank.example.org", "fd00:0::1", ""))})

    assert known.service("web").addresses == ("10.0.0.9", "fd00::1")


async def test_who_waits_for_news_is_woken_when_there_will_be_none():
    known = Directory()
    known.learn({"web": WEB})
    waiting = known.changed
    known.missed()

    assert (waiting.is_set(), known.manages, known.service("web")) == (True, False, WEB)
    waiting = known.changed
    known.missed()
    assert not waiting.is_set()


def test_what_was_told_is_read_back():
    known = Directory()
    known.hear({"web": WEB, "api": API})

    assert read(json.loads(json.dumps(known.told()))) == {"web": WEB, "api": API}


@pytest.mark.parametrize("told", [None, [], "x", 1])
def test_what_is_no_directory_is_refused(told):
    with pytest.raises(DirectoryError):
        read(told)


@pytest.mark.parametrize(
    "told",
    [
        None, {}, {"labels": {}, "addresses": {}, "secrets": {}}, {"labels": [], "addresses": [], "secrets": {}},
        {"labels": {"a": 1}, "addresses": [], "secrets": {}}, {"labels": {}, "addresses": [1], "secrets": {}},
        {"labels": {}, "addresses": [], "secrets": {"x": None}},
    ],
)  # fmt: skip
def test_a_service_that_makes_no_sense_is_unknown_and_others_are_read(told):
    known = Directory()
    known.hear({"web": WEB})

    assert read({"odd": told, **json.loads(json.dumps(known.told()))}) == {"web": WEB}
