"""Time passes when nothing else is left to do, in order, and at no cost."""

import anyio
import pytest

from lab import virtual


def test_sleepers_wake_in_order_however_long_they_sleep():
    woken = []

    async def sleep(seconds):
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time()))

    async def all_of_them():
        async with anyio.create_task_group() as tasks:
            for seconds in (3600.0, 0.25, 60.0):
                tasks.start_soon(sleep, seconds)

    virtual.run(all_of_them)

    assert woken == [(0.25, 0.25), (60.0, 60.0), (3600.0, 3600.0)]


def test_who_waits_for_ever_is_told():
    async def wait():
        await anyio.Event().wait()

    with pytest.raises(virtual.StuckError):
        virtual.run(wait)


def test_a_bound_ends_a_wait():
    async def wait():
        with anyio.move_on_after(5):
            await anyio.Event().wait()
        return anyio.current_time()

    assert virtual.run(wait) == 5.0
