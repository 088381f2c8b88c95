"""
Public test data and published tricks: each case has one outcome, however it is cut, and it means one thing to all.

The data is in tests/corpus, with its sources. Three readers are asked: ours, h11 and llhttp; what we pass on must be
the same messages to the other two.
"""

from __future__ import annotations

import itertools
import re

import pytest

from lab.corpus import CASES, FOLDER, NAMES, cases, differences
from lab.exchange import REFUSALS
from lab.readers import requests_by_both, response_by_h11, response_by_llhttp

WHATEVER = pytest.mark.parametrize("case", CASES, ids=str)
OUTCOME = re.compile(rf"\d+, (idle|more|closed|tunnel|502|{'|'.join(map(str, REFUSALS))})")


@WHATEVER
def test_every_case_ends_as_its_data_says(case):
    outcome, _ = case.read([case.wire])

    assert str(outcome) == case.ours
    assert OUTCOME.fullmatch(case.ours)
    assert outcome.end != "502" or case.side == "response", "a client's fault is never the backend's"


def cuts(wire):
    """Every byte for itself; in two around each end of a line, and at many more places."""
    yield [wire[at : at + 1] for at in range(len(wire))]
    edges = {
        at for found in itertools.islice(re.finditer(rb"[\r\n:]", wire), 30) for at in (found.start(), found.end())
    }
    for at in sorted(edges | set(range(1, len(wire), max(1, len(wire) // 10)))):
        yield [wire[:at], wire[at:]]


@WHATEVER
def test_no_cut_changes_how_a_case_ends(case):
    for pieces in cuts(case.wire):
        outcome, _ = case.read(pieces)
        assert str(outcome) == case.ours, pieces


@pytest.mark.parametrize("corpus", NAMES)
def test_where_we_differ_from_others_there_is_a_reason_and_no_reason_is_left_over(corpus):
    explained = list(itertools.chain.from_iterable(differences(corpus).values()))

    assert sorted(explained) == sorted(case.name for case in cases(corpus) if case.differs())
    assert all(differences(corpus)), "a reason has words"


def test_the_data_is_small_and_says_whence_it_is():
    assert NAMES == ["aiohttp", "found", "gunicorn", "llhttp", "varnish"]
    for name in NAMES:
        source = (FOLDER / name / "SOURCE").read_text()
        if name != "found":
            assert re.search(r"^Version: \S+$", source, re.MULTILINE)
            assert (FOLDER / name / "LICENSE").read_text()
    assert sum(each.stat().st_size for each in FOLDER.rglob("*")) < 1 << 20


# What we pass on, to other readers.


@pytest.mark.parametrize("case", [case for case in CASES if case.side == "request"], ids=str)
def test_what_we_pass_on_is_the_same_requests_to_everybody(case):
    outcome, exchange = case.read([case.wire])
    seen = [message for stream in exchange.backends for message in requests_by_both(stream)]

    assert len(seen) == outcome.whole


@pytest.mark.parametrize("case", [case for case in CASES if case.side == "response"], ids=str)
def test_what_we_pass_on_is_the_same_response_to_everybody(case):
    outcome, exchange = case.read([case.wire])
    if outcome.end == "tunnel":
        return
    ended = not exchange.flow.lost and outcome.end == "closed"
    seen = response_by_h11(exchange.to_client, ended=ended)
    assert (seen is not None) == (not exchange.flow.lost), "cut, or whole: ours or the backend's"
    if seen is not None and not ended:
        assert response_by_llhttp(exchange.to_client) == seen
