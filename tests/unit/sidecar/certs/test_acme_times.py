"""When to order, renew and try again: whatever happens, no more than a server's limits allow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sslterm.certs.acme_times import BackOff, next_question, renewal, within

DAY = 86400.0


def test_a_failure_is_followed_by_longer_and_longer_pauses_up_to_a_day():
    back_off, now, pauses = BackOff(), 1e9, []
    for _ in range(12):
        back_off.failed(now, 0.0, reached=True)
        pauses.append(back_off.next - now)
        now = back_off.next

    # The fifth within an hour makes the sixth wait until the hour of the first is over.
    assert pauses[:6] == [60, 120, 240, 480, 2700, 1920]
    assert pauses[-2:] == [61440, 86400]


def test_a_server_that_cannot_be_reached_is_asked_each_hour_at_least():
    back_off, now = BackOff(), 1e9
    for _ in range(20):
        back_off.failed(now, 0.0, reached=False)
        assert back_off.next - now <= 3600
        now = back_off.next
    assert back_off.failures == []
    assert back_off.soonest < now


def test_what_the_server_asks_for_is_granted():
    back_off = BackOff()
    back_off.failed(1e9, 7200.0, reached=True)

    assert back_off.next == back_off.soonest == 1e9 + 7200

    back_off.failed(1e9, 1e12, reached=True)

    assert back_off.next == 1e9 + DAY


def test_success_forgets_it_all():
    back_off = BackOff([1e9] * 5)
    back_off.failed(1e9, 7200.0, reached=True)
    back_off.succeeded()

    assert (back_off.next, back_off.soonest, back_off.count, back_off.failures) == (0.0, 0.0, 0, [])


@given(st.lists(st.tuples(st.floats(0, 40000), st.floats(0, 1e6), st.booleans()), max_size=60))
def test_five_failures_an_hour_whatever_somebody_asks_for(steps):
    """Each step: somebody waits for so long and then asks; restarts lose all but the failures that are kept."""
    back_off, now, tried = BackOff(), 1e9, []
    for wait, after, restart in steps:
        now = max(now + wait, back_off.soonest)
        tried.append(now)
        back_off.failed(now, after, reached=True)
        if restart:
            back_off = BackOff(back_off.failures)
    for first, sixth in zip(tried, tried[5:], strict=False):
        assert sixth - first >= 3600


@given(st.floats(0, 2e9), st.floats(10, 1e8), st.floats(0, 1))
def test_a_third_of_its_life_is_left_at_renewal_or_somewhat_more(begin, life, chance):
    at = renewal(begin, begin + life, chance)

    assert begin + 0.61 * life <= at <= begin + 0.67 * life


@given(st.floats(0, 2e9), st.floats(-1e6, 1e8), st.floats(0, 1))
def test_a_suggested_time_is_within_the_window(start, length, chance):
    assert start <= within(start, start + length, chance) <= max(start, start + length) + 1e-3


def test_a_server_is_neither_asked_all_the_time_nor_never():
    assert next_question(1e9, 0) == 1e9 + 60
    assert next_question(1e9, 21600) == 1e9 + 21600
    assert next_question(1e9, 1e9) == 1e9 + DAY
