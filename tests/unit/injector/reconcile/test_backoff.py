"""How long to wait before trying again."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.reconcile.backoff import CAP, FIRST, Pace, delay


def test_delays_double_up_to_a_minute_with_a_fifth_at_random():
    for failures, full in [(1, 1), (2, 2), (3, 4), (4, 4), (10, 4), (11, 8), (12, 16), (14, 60), (1000, 60)]:
        assert 0.8 * full <= delay(failures) <= full
    for failures, full in [(1, 1), (3, 4), (4, 8), (7, 60), (1000, 60)]:
        assert 0.8 * full <= delay(failures, patience=0) <= full


def test_what_is_over_within_half_a_minute_is_tried_again_within_five_seconds():
    now, failures = 0.0, 0
    while now < 30:
        failures += 1
        wait = delay(failures)
        now += wait

        assert wait <= 4


def test_the_first_start_waits_for_nothing():
    assert Pace().wait(1, now=0.0) == 0


def test_a_sidecar_that_crashes_is_started_ever_less_often():
    pace, now, waits = Pace(), 0.0, []
    for _ in range(14):
        now += pace.wait(1, now)
        pace.tried(now)
        waits.append(pace.wait(1, now))

    assert waits[0] == FIRST
    assert all(earlier < later for earlier, later in pairwise([*waits[:3], *waits[10:13]]))
    assert all(0.8 * 4 <= each <= 4 for each in waits[2:10])
    assert 0.8 * CAP <= waits[-1] <= CAP


def test_a_new_life_of_the_target_starts_over_but_never_faster_than_once_a_second():
    pace = Pace()
    for now in (0.0, 1.0, 3.0, 7.0):
        pace.wait(1, now)
        pace.tried(now)

    assert pace.wait(1, 7.5) > 2
    assert pace.wait(2, 7.5) == 0.5
    assert pace.wait(2, 8.0) == 0


def test_a_sidecar_that_ran_steadily_is_forgiven():
    pace = Pace()
    for now in (0.0, 1.0, 3.0):
        pace.wait(1, now)
        pace.tried(now)
    pace.steady()

    assert pace.wait(1, 20.0) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2), st.booleans())))
def test_there_is_never_more_than_one_try_a_second(steps):
    pace, now, tries = Pace(), 0.0, []
    for passed, life, steady in steps:
        now += passed
        if steady:
            pace.steady()
        if pace.wait(life, now) == 0:
            pace.tried(now)
            tries.append(now)

    assert all(later - earlier >= 0.999 for earlier, later in pairwise(tries))
