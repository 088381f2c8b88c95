"""Counts of one process, and of several that share memory."""

from __future__ import annotations

import mmap

from sslterm.relay.tally import ACCEPTED, DENIALS, OPEN, OUTBOUND, OUTBOUND_FAILED, REFUSED, REQUESTS, Tally


def test_one_process_counts_for_itself():
    tally = Tally()
    tally.mine[OPEN] += 2

    assert tally.total(OPEN) == 2
    assert tally.row(0)[OPEN] == 2
    assert not tally.shared


def test_rows_are_apart_and_summed_up():
    memory = mmap.mmap(-1, Tally.size(3))
    rows = [Tally(memoryview(memory), row) for row in range(3)]
    for number, tally in enumerate(rows):
        for what in (OPEN, ACCEPTED, REQUESTS, REFUSED):
            tally.mine[what] += 10**number + what

    for tally in rows:
        assert [tally.total(what) for what in (OPEN, ACCEPTED, REQUESTS, REFUSED)] == [111, 114, 117, 120]
        assert [tally.row(number)[OPEN] for number in range(3)] == [1, 10, 100]
        assert tally.shared


def test_it_says_what_was_served():
    tally = Tally()
    assert str(tally) == "served 0 requests on 0 connections"
    tally.mine[REQUESTS], tally.mine[ACCEPTED], tally.mine[REFUSED] = 12, 5, 2
    assert str(tally) == "served 12 requests on 5 connections, 2 of which failed in the TLS handshake"
    tally.mine[OUTBOUND], tally.mine[OUTBOUND_FAILED] = 3, 1
    assert str(tally).endswith("in the TLS handshake; 3 calls to others, 1 of which failed")


def test_denials_are_counted_by_reason():
    memory = mmap.mmap(-1, Tally.size(2))
    rows = [Tally(memoryview(memory), row) for row in range(2)]
    for number, what in enumerate(DENIALS.values(), 1):
        rows[0].mine[what] += number
        rows[1].mine[what] += 10

    assert rows[0].denied() == {
        "no-certificate": 11, "bad-certificate": 12, "expired": 13, "not-allowed": 14, "bad-identity": 15,
    }  # fmt: skip
    assert rows[0].total(OPEN) == rows[0].total(REFUSED) == 0
    assert str(rows[1]) == "served 0 requests on 0 connections; 65 clients were denied"
