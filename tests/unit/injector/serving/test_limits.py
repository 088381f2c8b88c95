"""How often is counted for each key by itself, and remembered for so many keys only."""

from byfahrer.serving import limits
from byfahrer.serving.limits import Buckets, Seldom


class Time:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_burst_is_let_through_and_then_one_at_a_time():
    time = Time()
    buckets = Buckets(3, 2.0, clock=time)

    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2.0]
    assert buckets.take("b") == 0
    time.now = 1.0
    assert buckets.take("a") == 1.0
    time.now = 2.0
    assert [buckets.take("a"), buckets.take("a")] == [0, 2.0]
    time.now = 1000.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2.0]


def test_what_was_said_is_said_again_after_a_while_with_what_was_left_out():
    time = Time()
    seldom = Seldom(60.0, clock=time)

    assert [seldom.again("a"), seldom.again("a"), seldom.again("b"), seldom.again("a")] == [0, None, 0, None]
    time.now = 60.0
    assert [seldom.again("a"), seldom.again("a")] == [2, None]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "MOST", 10)
    buckets, seldom = Buckets(1, 1.0), Seldom(1.0)
    for key in map(str, range(100)):
        buckets.take(key)
        seldom.again(key)

    assert len(buckets._buckets) == 10
    assert len(seldom._said) == 10
