"""The flow of raw bytes: each direction ends on its own, and one record is left."""

from __future__ import annotations

import pytest

from sslterm.protocol.flows import RawFlow, Waiting


def flow():
    return RawFlow(1.0)


def test_it_wants_its_backend_at_once_because_the_server_may_speak_first():
    raw = flow()

    assert raw.dial
    assert raw.waiting == Waiting.TUNNEL
    assert not raw.idle
    assert not raw.can_resume


def test_bytes_pass_as_they_are_and_are_counted():
    raw = flow()

    assert raw.from_client(memoryview(b"\x00GET"), 2.0) == b"\x00GET"
    assert raw.from_backend(memoryview(b"hello"), 2.0) == b"hello"
    raw.client_ended(3.0)
    raw.backend_ended(4.0, "")
    assert [tuple(each) for each in raw.records] == [(1.0, 4.0, 0, "", "", 4, 5, "")]


@pytest.mark.parametrize("order", ["client first", "backend first"])
def test_each_direction_ends_on_its_own(order):
    raw = flow()
    ends = [lambda: raw.client_ended(2.0), lambda: raw.backend_ended(2.0, "")]
    if order == "backend first":
        ends.reverse()
    ends[0]()
    assert (raw.end_backend, raw.end_client) == ((True, False) if order == "client first" else (False, True))
    assert not raw.over
    ends[1]()
    assert raw.over
    assert not raw.lost
    assert len(raw.records) == 1


@pytest.mark.parametrize(
    "how",
    [
        lambda raw: raw.client_lost(2.0, "gone"),
        lambda raw: raw.backend_ended(2.0, "gone"),
        lambda raw: raw.backend_failed(2.0, 502, "gone"),
    ],
)
def test_whatever_breaks_one_side_cuts_both_once(how):
    raw = flow()
    raw.client_ended(1.5)
    how(raw)
    raw.client_lost(3.0, "again")

    assert raw.lost
    assert [record.fault for record in raw.records] == ["gone"]


def test_nothing_that_comes_after_the_end_is_a_second_record():
    raw = flow()
    raw.client_ended(2.0)
    raw.backend_ended(2.0, "")
    raw.client_lost(3.0, "late reset")

    assert not raw.lost
    assert len(raw.records) == 1


def test_a_late_client_is_cut_and_a_drain_waits():
    raw = flow()
    raw.drain()
    assert not raw.over
    assert not raw.lost
    raw.client_late(2.0)
    assert raw.lost
