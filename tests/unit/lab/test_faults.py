"""What is recorded of faults, and how it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import faults
from lab.faults import Fault

ROOT = Path(__file__).parents[3]


def fault(number=3, **more):
    return Fault(number, "it breaks", "it holds", "tests/engine/faults/test_x.py::test_it_breaks[a]", **more)


def one_of_each():
    return [fault(number, seconds=[1.0]) for number in faults.TITLES if number not in faults.ELSEWHERE]


@pytest.mark.parametrize(
    ("seconds", "figures", "shown"),
    [
        ([], [], ""),
        ([0.123], [], "0.12"),
        ([1.0, 3.0, 2.0], [], "2.00 (at most 3.00, of 3)"),
        ([0.5], ["4 tries"], "0.50; 4 tries"),
        ([], ["4 tries"], "4 tries"),
    ],
)
def test_times_are_one_or_a_median_with_the_longest(seconds, figures, shown):
    assert fault(seconds=seconds, figures=figures).times == shown


def test_seconds_are_counted_from_the_fault_to_the_promise():
    broken, answers = fault(), iter([False, True])
    broken.happens()
    broken.holds_once(lambda: next(answers))

    assert len(broken.seconds) == 1
    assert 0 < broken.seconds[0] < 60


def test_what_is_never_made_good_fails_and_says_what_is_wrong():
    broken = fault()
    broken.happens()
    with pytest.raises(AssertionError, match="fault 3, not made good within 0 s"):
        broken.holds_once(lambda: False, 0)
    assert broken.seconds == []


def test_the_table_is_in_the_order_of_the_numbers():
    assert [row.split()[0] for row in faults.table([fault(20), fault(3)])] == ["3", "20"]


def test_the_page_has_every_fault_with_its_tests():
    page = faults.report(one_of_each(), "# Head", ROOT)

    assert page.count("\n## ") == 30
    assert "| it breaks | it holds | 1.00 | [test_it_breaks](../tests/engine/faults/test_x.py) |" in page


def test_a_fault_that_nothing_shows_is_no_page():
    with pytest.raises(AssertionError, match="nothing shows fault 3"):
        faults.report([each for each in one_of_each() if each.number != 3], "", ROOT)
