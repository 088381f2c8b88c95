"""Wherever the injector is killed, whatever it missed, and whoever works beside it: the next one goes on from there."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta

import pytest

from lab.faults import complaints
from lab.meddler import Holds, Rewrites
from lab.waiting import wait_until

START = r"/containers/[0-9a-f]{64}/start$"
MOMENTS = {
    "before the create arrives": ("POST", r"/containers/create", False),
    "between create and start": ("PUT", r"/archive", False),
    "before the start arrives": ("POST", START, False),
    "after the start": ("POST", START, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_it_injects(lab, injector, meddler, fault, moment):
    broken = fault(19, f"`kill -9` of the injector {moment}", "the next one goes on: one sidecar")
    method, path, answered = MOMENTS[moment]
    daemon = injector(env=meddler.env).is_ready()
    held = meddler.add(Holds(method, path, answered=answered))
    lab.run()
    held.is_reached()
    daemon.stop(signal.SIGKILL)
    held.lose()
    injector()
    broken.happens()
    broken.converges(lab)


@pytest.mark.parametrize("answered", [False, True])
def test_killed_while_it_reaps(lab, injector, meddler, fault, answered):
    broken = fault(
        19,
        f"`kill -9` of the injector {'after' if answered else 'before'} a remove",
        "the next one goes on: none is left",
    )
    daemon = injector(env=meddler.env).is_ready()
    www = lab.run()
    lab.becomes_served(www)
    held = meddler.add(Holds("DELETE", r"/containers/", answered=answered))
    lab.remove(www)
    held.is_reached()
    daemon.stop(signal.SIGKILL)
    held.lose()
    injector()
    broken.happens()
    broken.converges(lab)

    assert lab.sidecars() == []


def test_killed_while_it_moves_a_sidecar(lab, injector, meddler, fault):
    broken = fault(
        19, "`kill -9` of the injector while it restarts a sidecar whose target has restarted", "the next one goes on"
    )
    daemon = injector(env=meddler.env).is_ready()
    www = lab.run()
    lab.becomes_served(www)
    held = meddler.add(Holds("POST", r"/restart"))
    lab.api.restart(www, timeout=1)
    held.is_reached()
    daemon.stop(signal.SIGKILL)
    held.lose()
    injector()
    broken.happens()
    broken.converges(lab)


def test_what_happened_while_it_was_dead_is_made_good(lab, injector, fault):
    broken = fault(
        19,
        "`kill -9` of the injector; targets die, restart, start, and sidecars die, before the next one",
        "all is made good",
    )
    daemon = injector().is_ready()
    gone, stopped, restarts, bare = (lab.run(name) for name in ("gone", "stopped", "restarts", "bare"))
    for each in (gone, stopped, restarts, bare):
        lab.becomes_served(each)
    daemon.stop(signal.SIGKILL)
    lab.remove(gone)
    lab.api.kill(stopped)
    lab.api.restart(restarts, timeout=1)
    lab.crash(lab.sidecars(bare)[0]["Id"])
    lab.run("fresh")
    assert len(lab.sidecars()) == 4
    injector()
    broken.happens()
    broken.converges(lab)


def test_frozen_and_thawed_it_catches_up(lab, injector, fault):
    broken = fault(
        18, "the injector is frozen (SIGSTOP) while targets die, restart and start", "all is made good when it goes on"
    )
    daemon = injector().is_ready()
    dies, restarts = lab.run("dies"), lab.run("restarts")
    for each in (dies, restarts):
        lab.becomes_served(each)
    daemon.freeze()
    lab.remove(dies)
    lab.api.restart(restarts, timeout=1)
    lab.run("fresh")
    daemon.thaw()
    broken.happens()
    broken.converges(lab)


def test_two_at_once_are_harmless(lab, injector, fault):
    broken = fault(
        19, "two injectors, while five targets start, restart and die", "one sidecar each, and no error of either"
    )
    daemons = injector(), injector()
    for each in daemons:
        each.is_ready()
    targets = [lab.run(f"www{number}") for number in range(5)]
    broken.happens()
    broken.converges(lab)
    for each in targets[:2]:
        lab.api.restart(each, timeout=1)
    broken.happens()
    broken.converges(lab)
    for each in targets[1:]:
        lab.remove(each)
    broken.happens()
    broken.converges(lab)
    daemons[0].stop(signal.SIGKILL)
    lab.run("fresh")
    broken.happens()
    broken.converges(lab)

    assert daemons[0].saying("ERROR") == daemons[1].saying("ERROR") == []


class Clock:
    """What the engine tells of times, with a clock that was set while it ran."""

    def __init__(self, **jump):
        self._at, self._by = datetime.now().astimezone(), timedelta(**jump)

    def __call__(self, told):
        for key in ("StartedAt", "FinishedAt"):
            whole, _, rest = told["State"][key].rstrip("Z").partition(".")
            moment = datetime.fromisoformat(f"{whole}.{rest or '0':0<6.6}+00:00")
            if moment > self._at:
                moved = (moment + self._by).strftime("%Y-%m-%dT%H:%M:%S")
                told["State"][key] = f"{moved}.{rest or '0'}Z"
        return told


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_costs_no_sidecar_and_no_endless_restarts(lab, injector, meddler, fault, full, hours):
    way = "back" if hours < 0 else "forward"
    broken = fault(
        25,
        f"the engine's clock jumps {way} by an hour; then a target restarts, and a sidecar crashes",
        "both are served, and stay so",
    )
    injector("--resync", "1", env=meddler.env).is_ready()
    restarts, loses = lab.run("restarts"), lab.run("loses")
    for each in (restarts, loses):
        lab.becomes_served(each)
    meddler.add(Rewrites(Clock(hours=hours), "GET", r"/containers/[^/]+/json"))
    lab.api.restart(restarts, timeout=1)
    lab.crash(lab.sidecars(loses)[0]["Id"])
    broken.happens()
    broken.converges(lab)
    before = {each["Id"]: each["State"]["StartedAt"] for each in lab.sidecars()}
    resyncs = 10 if full else 3
    looks = len(meddler.asked("GET", r"/containers/json"))
    wait_until(lambda: len(meddler.asked("GET", r"/containers/json")) > looks + resyncs, 60)

    assert complaints(lab) == []
    assert {each["Id"]: each["State"]["StartedAt"] for each in lab.sidecars()} == before
