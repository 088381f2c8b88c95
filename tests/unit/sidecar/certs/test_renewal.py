"""When a renewal is due, by two clocks; and when it is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.certs import renewal
from sslterm.certs.renewal import OVER, Lease, spread

DAY = 86400.0


class Clocks:
    """Both, moved by hand."""

    def __init__(self):
        self.wall, self.steady = 1.8e9, 5000.0

    def go(self, seconds):
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(renewal.time, "time", lambda: clocks.wall)
    monkeypatch.setattr(renewal.time, "monotonic", lambda: clocks.steady)
    return clocks


@given(st.floats(0.001, 1e9), st.floats(0, 1))
def test_a_spread_is_no_wider_than_it_says(seconds, share):
    assert seconds * (1 - share) * 0.999 <= spread(seconds, share) <= seconds * (1 + share) * 1.001


def test_sidecars_that_begin_together_do_not_renew_together(clocks):
    waits = [Lease.begin(clocks.wall + DAY, DAY / 2).wait for _ in range(200)]

    assert 0.45 * DAY <= min(waits) < 0.47 * DAY
    assert 0.53 * DAY < max(waits) <= 0.55 * DAY


def test_it_is_due_when_its_time_has_gone(clocks):
    lease = Lease.begin(clocks.wall + DAY, DAY / 2)
    clocks.go(0.4 * DAY)
    assert lease.due_in() > 0
    clocks.go(0.16 * DAY)
    assert lease.due_in() <= 0


def test_a_wall_clock_that_jumps_ahead_makes_it_due(clocks):
    """As after a machine has slept, when the steady clock stood still."""
    lease = Lease.begin(clocks.wall + DAY, DAY / 2)
    clocks.wall += 0.6 * DAY

    assert lease.due_in() <= 0
    assert lease.age() == 0


def test_a_wall_clock_that_jumps_back_does_not_put_it_off(clocks):
    lease = Lease.begin(clocks.wall + DAY, DAY / 2)
    clocks.wall -= 30 * DAY
    clocks.steady += 0.6 * DAY

    assert lease.due_in() <= 0


@pytest.mark.parametrize(("life", "renew_in"), [(10, 10), (DAY, DAY), (10, 0.001)])
def test_whatever_the_authority_says_there_is_time_left_to_renew(clocks, life, renew_in):
    lease = Lease.begin(clocks.wall + life, renew_in)

    assert 1 <= lease.wait <= 0.9 * life


def test_stages_of_its_life(clocks):
    lease = Lease.begin(clocks.wall + 100, 50)
    stages = []
    for _ in range(11):
        stages.append(lease.stage())
        clocks.go(10)

    assert stages == [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, OVER]
    assert lease.stage() == OVER
    assert Lease(clocks.wall, clocks.wall, 0, 1).stage() == OVER, "one without a life"


def test_pauses_grow_and_leave_tries_to_the_end(clocks):
    lease = Lease.begin(clocks.wall + DAY, DAY / 2)
    pauses = [lease.pause(failures) for failures in range(1, 40)]
    for pause, expected in zip(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, *[300] * 30], strict=True):
        assert 0.8 * expected <= pause <= 1.2 * expected

    clocks.go(DAY - 100)
    assert 8 <= lease.pause(30) <= 12, "a tenth of what is left"
    clocks.go(99.9)
    assert 0.16 <= lease.pause(30) <= 0.24, "but no busy loop"
    clocks.go(1)
    assert 4 <= lease.pause(30) <= 6, "when it is over"


def test_it_waits_for_as_long_as_it_is_asked_to(clocks):
    lease = Lease.begin(clocks.wall + DAY, DAY / 2)

    assert lease.pause(1, 120) == 120
    assert lease.pause(30, 1) >= 240
