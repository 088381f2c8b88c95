"""A sidecar that speaks no longer is found out; one that cannot be blamed for it is not."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from byfahrer.authority import heartbeat
from byfahrer.authority.heartbeat import EVERY, FIRST, STALLED, UNANSWERED, Heartbeat
from byfahrer.model import Container, Status

SIDECAR = Container(id="s1", name="www-proxy", image="sslterm", status=Status.RUNNING, pid=7, started_at=1)


class World:
    """A heartbeat, and a time that passes in looks."""

    def __init__(self):
        self.now = 1000.0
        self.heart = Heartbeat(lambda: self.now)

    def speak(self, sidecar="s1", target="t1", again_in=10.0):
        self.heart.came(sidecar, target)
        if again_in:
            self.heart.answered(sidecar, again_in)

    def pass_(self, seconds):
        """Whether anybody is late at its end."""
        late = False
        for _ in range(int(seconds / EVERY)):
            self.now += EVERY
            late = self.heart.look()
        return late

    def silent(self, sidecar=SIDECAR):
        self.heart.met("t1", [sidecar])
        return self.heart.silent(sidecar)


@pytest.fixture
def world():
    return World()


def test_one_that_misses_three_times_hangs_once_a_second_look_agrees(world):
    world.speak()
    assert not world.pass_(30)
    assert world.pass_(EVERY)
    assert not world.silent()
    assert world.pass_(EVERY)
    assert world.silent()


def test_a_word_ends_it(world):
    world.speak()
    world.pass_(60)
    world.speak()
    assert not world.silent()
    assert not world.pass_(EVERY)


def test_who_never_spoke_to_this_process_is_not_missed(world):
    assert not world.pass_(600)
    assert not world.silent()


def test_one_that_was_told_to_speak_seldom_is_waited_for(world):
    world.speak(again_in=50)
    assert not world.pass_(150)
    assert world.pass_(EVERY)


def test_one_that_got_no_answer_may_take_longer(world):
    world.speak(again_in=0)
    assert not world.pass_(3 * UNANSWERED)
    assert world.pass_(EVERY)


@pytest.mark.parametrize("change", [{"status": Status.PAUSED}, {"status": Status.EXITED}, {"started_at": 2}])
def test_another_process_or_one_that_may_not_run_owes_no_word(world, change):
    world.speak()
    world.silent()
    world.pass_(60)
    assert not world.silent(replace(SIDECAR, **change))
    assert not world.silent()
    assert not world.pass_(60)


def test_one_that_is_gone_is_forgotten_and_others_are_not(world):
    world.speak()
    world.speak("s2", "t2")
    world.pass_(60)
    world.heart.met("t1", [])

    assert not world.heart.silent(SIDECAR)
    assert world.heart.silent(replace(SIDECAR, id="s2"))


@pytest.mark.parametrize("asleep", [STALLED + 1, 3600])
def test_when_we_did_not_run_ourselves_nobody_is_late(world, asleep):
    """Stopped by a signal, or with the machine: all have been silent for as long."""
    world.speak()
    world.pass_(10)
    world.now += asleep

    assert not world.heart.look()
    assert not world.pass_(600)
    assert not world.silent()


def watched(monkeypatch, world, *, answers):
    """Whom a watch of some turns calls for."""
    called = []

    async def sleep(seconds):
        assert seconds == EVERY
        world.now += EVERY
        if world.now > 1100:
            raise StopAsyncIteration
        await anyio.lowlevel.checkpoint()

    async def ours():
        return answers

    monkeypatch.setattr(heartbeat.anyio, "sleep", sleep)
    with pytest.raises(StopAsyncIteration):
        anyio.run(world.heart.watch, ours, called.append)
    return called


def test_whose_sidecar_hangs_is_called_for_once(monkeypatch, world):
    world.speak()
    assert watched(monkeypatch, world, answers=True) == ["t1"]
    assert world.silent()


def test_while_our_own_socket_gives_no_answer_nobody_hangs(monkeypatch, world):
    world.speak()
    assert watched(monkeypatch, world, answers=False) == []
    assert not world.silent()


OUR_OWN = replace(
    SIDECAR, labels={"sslterm.hand-over": "SIGUSR2"}, env={"SSLTERM_AUTHORITY": "/run/byfahrer/authority.sock"}
)


def test_one_of_our_own_image_that_never_speaks_hangs_too(world):
    assert not world.silent(OUR_OWN)
    assert not world.heart.knows("s1")
    assert not world.pass_(FIRST)
    world.pass_(2 * EVERY)
    assert world.silent(OUR_OWN)


def test_nobody_is_restarted_twice_for_never_having_spoken(world):
    world.silent(OUR_OWN)
    world.pass_(FIRST + 2 * EVERY)
    assert world.silent(OUR_OWN)
    restarted = replace(OUR_OWN, started_at=2)
    assert not world.silent(restarted)
    assert not world.pass_(4 * FIRST)

    world.speak()
    world.pass_(60)
    assert world.silent(restarted)


@pytest.mark.parametrize("other", [replace(OUR_OWN, labels={}), replace(OUR_OWN, env={})])
def test_who_cannot_speak_is_not_expected_to(world, other):
    world.silent(other)
    assert not world.pass_(4 * FIRST)
