"""Each key by one worker at a time, keys side by side, nothing lost, failures ever later."""

from collections import Counter

import anyio
import anyio.lowlevel
import pytest

from byfahrer.reconcile.queue import KeyedQueue, Schedule
from lab.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class TestSchedule:
    def test_a_key_is_in_it_once_at_its_earliest_time(self):
        schedule = Schedule()
        schedule.put("a", 5, urgent=True)
        schedule.put("a", 2, urgent=True)
        schedule.put("a", 9, urgent=True)

        assert schedule.next_due() == 2
        assert schedule.take(1) is None
        assert schedule.take(2) == "a"
        assert schedule.next_due() is None

    def test_who_is_due_longest_comes_first(self):
        schedule = Schedule()
        for key, at in (("late", 3), ("early", 1), ("middle", 2)):
            schedule.put(key, at, urgent=False)

        assert [schedule.take(9) for _ in range(4)] == ["early", "middle", "late", None]

    def test_a_key_put_while_it_is_handled_is_handled_once_more_but_not_beside_itself(self):
        schedule = Schedule()
        schedule.put("a", 0, urgent=True)
        schedule.take(0)
        schedule.put("a", 1, urgent=True)
        schedule.put("a", 2, urgent=True)

        assert schedule.take(5) is None
        schedule.done("a")
        assert schedule.take(5) == "a"
        schedule.done("a")
        assert schedule.take(5) is None

    def test_a_failing_key_waits_longer_each_time_and_success_forgives(self):
        schedule, waits, now = Schedule(), [], 0.0
        schedule.put("a", now, urgent=True)
        for _ in range(3):
            assert schedule.take(now) == "a"
            waits.append(schedule.failed("a", now))
            assert schedule.take(now + waits[-1] - 0.001) is None
            now += waits[-1]

        assert waits == sorted(waits)
        schedule.take(now)
        schedule.done("a")
        schedule.put("a", now, urgent=False)
        schedule.take(now)
        assert schedule.failed("a", now) <= 1

    def test_only_an_urgent_reason_cuts_the_wait_after_a_failure_short(self):
        schedule = Schedule()
        schedule.put("a", 0, urgent=True)
        schedule.take(0)
        schedule.failed("a", 0)

        schedule.put("a", 0, urgent=False)
        assert schedule.take(0.1) is None
        schedule.put("a", 0, urgent=True)
        assert schedule.take(0.1) == "a"

    def test_a_reason_that_came_during_a_failing_try_counts_if_it_is_urgent(self):
        for urgent, expected in ((True, "a"), (False, None)):
            schedule = Schedule()
            schedule.put("a", 0, urgent=True)
            schedule.take(0)
            schedule.put("a", 0, urgent=urgent)
            schedule.failed("a", 0)

            assert schedule.take(0.1) == expected

    def test_done_may_ask_for_another_look(self):
        schedule = Schedule()
        schedule.put("a", 0, urgent=True)
        schedule.take(0)
        schedule.done("a", again_at=4)

        assert schedule.next_due() == 4


class Running:
    """A queue that runs, with a handler that can be told what to do."""

    def __init__(self, **options):
        self.seen: list[str] = []
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.gate = anyio.Event()
        self.script: dict[str, list] = {}
        self.queue = KeyedQueue(
            self.handle, lambda key, error, wait: self.failures.append((key, str(error))), **options
        )

    async def handle(self, key):
        self.seen.append(key)
        self.now[key] += 1
        self.now["*"] += 1
        for each in (key, "*"):
            self.most[each] = max(self.most[each], self.now[each])
        try:
            await self.gate.wait()
        finally:
            self.now[key] -= 1
            self.now["*"] -= 1
        answer = self.script[key].pop(0) if self.script.get(key) else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_keys_run_side_by_side_up_to_the_limit_and_each_alone():
    running = Running(workers=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        for key in "abcde":
            running.queue.put(key)
        await until(lambda: len(running.seen) == 3)
        for key in "abc":
            running.queue.put(key)
        running.gate.set()
        await until(lambda: len(running.seen) == 8)
        tasks.cancel_scope.cancel()

    assert running.most["*"] == 3
    assert max(running.most[key] for key in "abcde") == 1


async def test_a_failure_is_told_and_tried_again_and_hurts_nobody_else():
    running = Running()
    running.gate.set()
    running.script["bad"] = [ValueError("a bug")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        running.queue.put("bad")
        running.queue.put("good")
        await until(lambda: running.seen.count("bad") == 2)
        tasks.cancel_scope.cancel()

    assert running.failures == [("bad", "a bug")]
    assert "good" in running.seen


async def test_a_handler_may_ask_to_be_called_again():
    running = Running()
    running.gate.set()
    running.script["a"] = [0.01, 0.01]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        running.queue.put("a")
        await until(lambda: len(running.seen) == 3)
        tasks.cancel_scope.cancel()


async def test_a_sooner_reason_cuts_a_delay_short():
    running = Running()
    running.gate.set()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        running.queue.put("a", 3600)
        await anyio.lowlevel.checkpoint()
        running.queue.put("a")
        await until(lambda: running.seen == ["a"])
        tasks.cancel_scope.cancel()


async def test_handled_waits_for_one_look_at_each_of_the_keys_good_or_bad():
    running = Running()
    running.script["b"] = [ValueError("no")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        for key in "ab":
            running.queue.put(key)
        done = anyio.Event()

        async def wait():
            await running.queue.handled("ab")
            done.set()

        tasks.start_soon(wait)
        await until(lambda: len(running.seen) == 2)
        assert not done.is_set()
        running.gate.set()
        await until(done.is_set)
        await running.queue.handled(["never put"])
        tasks.cancel_scope.cancel()


async def test_when_stopped_what_is_under_way_is_finished_and_nothing_new_begun():
    running = Running(workers=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        running.queue.put("a")
        running.queue.put("b")
        await until(lambda: running.seen == ["a"])
        tasks.cancel_scope.cancel()
        running.gate.set()

    assert running.seen == ["a"]
    assert running.now["a"] == 0


async def test_when_stopped_what_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr("byfahrer.reconcile.queue.GRACE", 0.01)
    running = Running()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.queue.run)
        running.queue.put("a")
        await until(lambda: running.seen == ["a"])
        tasks.cancel_scope.cancel()

    assert running.now["a"] == 0


async def test_finish_handles_at_once_what_was_put_for_later_but_not_what_failed():
    handled = []

    async def handle(key):
        handled.append(key)
        if key == "bad":
            raise ValueError("no")

    queue = KeyedQueue(handle, lambda *_: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        queue.put("bad")
        await queue.handled(["bad"])
        queue.put("later", 3600.0)
        with anyio.fail_after(10):
            await queue.finish()
        tasks.cancel_scope.cancel()

    assert handled == ["bad", "later"]
