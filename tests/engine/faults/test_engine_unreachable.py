"""An engine that is away, hangs, answers badly or tells nothing: it is waited for, and nothing is missed."""

from __future__ import annotations

import time

import pytest

from lab.injector import byfahrer
from lab.meddler import Delays, Fails
from lab.waiting import wait_until


def lasts(seconds):
    """For as long as a fault is to last."""
    time.sleep(seconds)


def test_an_engine_that_is_away_and_comes_back_is_waited_for(lab, injector, proxy, fault, full):
    seconds = 60 if full else 8
    broken = fault(
        16,
        f"the engine's socket is away for {seconds} s, while targets die, restart and start",
        "said once; then all is made good",
    )
    daemon = injector(env=proxy.env).is_ready()
    dies, restarts = lab.run("dies"), lab.run("restarts")
    for each in (dies, restarts):
        lab.becomes_served(each)
    proxy.close()
    daemon.says("; trying again")
    lab.remove(dies)
    lab.api.restart(restarts, timeout=1)
    lab.run("fresh")
    lasts(seconds)
    proxy.open()
    broken.happens()
    broken.converges(lab)

    assert len(daemon.saying("No engine at")) == 1
    assert len(daemon.saying("Connected to")) == 2


def test_an_engine_that_is_not_there_yet_is_waited_for(lab, injector, proxy, fault):
    broken = fault(16, "the engine comes after the injector", "served as soon as it is there")
    proxy.close()
    daemon = injector(env=proxy.env)
    daemon.says("No engine at unix://")
    lab.run()
    proxy.open()
    broken.happens()
    broken.converges(lab)


@pytest.mark.timeout(240)
def test_an_engine_that_hangs_is_noticed_and_sidecars_serve_on(nested, nested_injector, fault, full):
    seconds = 60 if full else 25
    broken = fault(
        16,
        f"`dockerd` hangs (SIGSTOP) for {seconds} s, and goes on",
        "noticed; sidecars serve all the while, and there is no second one",
    )
    daemon = nested_injector().is_ready()
    www = nested.run()
    nested.becomes_served(www)
    (before,) = nested.sidecars(www)
    address = nested.address(www)
    begun = time.monotonic()
    with nested.engine.frozen():
        daemon.says("; trying again", seconds=60)
        noticed = time.monotonic() - begun
        while time.monotonic() - begun < seconds:
            assert nested.fetch_at(address)[0] == 200
            lasts(1)
    broken.happens()
    broken.converges(nested)
    broken.measured(f"noticed after {noticed:.0f} s")
    fresh = nested.run("fresh")
    nested.becomes_served(fresh)
    (after,) = nested.sidecars(www)

    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])


def test_an_engine_that_hangs_does_not_keep_the_injector_from_stopping(lab, injector, proxy):
    daemon = injector(env=proxy.env).is_ready()
    proxy.hangs = True
    lab.run()

    assert daemon.stop() == 0


def test_a_stream_that_falls_silent_hides_nothing_for_longer_than_a_resync(lab, injector, proxy, fault):
    broken = fault(
        17,
        "the event stream stays open and silent (`--resync 2`) while targets die, restart and start",
        "found by the next resync",
    )
    injector("--resync", "2", env=proxy.env).is_ready()
    dies, restarts, stays = (lab.run(name) for name in ("dies", "restarts", "stays"))
    for each in (dies, restarts, stays):
        lab.becomes_served(each)
    proxy.deaf = True
    lab.remove(dies)
    lab.api.restart(restarts, timeout=1)
    lab.crash(lab.sidecars(stays)[0]["Id"])
    lab.run("fresh")
    broken.happens()
    broken.converges(lab)


def test_more_events_than_the_engine_remembers_are_no_loss(lab, injector, fault):
    broken = fault(
        17,
        "the injector is down while targets come and go, and 270 other events flush the engine's memory",
        "all is found in the list",
    )
    daemon = injector().is_ready()
    dies, restarts = lab.run("dies"), lab.run("restarts")
    for each in (dies, restarts):
        lab.becomes_served(each)
    assert daemon.stop() == 0
    lab.remove(dies)
    lab.api.restart(restarts, timeout=1)
    busy = lab.run("fresh")
    for _ in range(90):  # three events each, and it remembers 256
        lab.api.exec_start(lab.api.exec_create(busy, ["/usr/bin/true"])["Id"])
    injector()
    broken.happens()
    broken.converges(lab)


def test_calls_that_fail_are_made_again(lab, injector, meddler, fault):
    broken = fault(
        16,
        "each tenth call is answered 500, while five targets start, restart and die",
        "all is made good, each call tried again with back-off",
    )
    meddler.add(Fails(share=0.1))
    daemon = injector(env=meddler.env)
    targets = [lab.run(f"www{number}") for number in range(5)]
    broken.happens()
    broken.converges(lab, 90)
    lab.api.restart(targets[0], timeout=1)
    lab.remove(targets[1])
    lab.crash(lab.sidecars(targets[2])[0]["Id"])
    broken.happens()
    broken.converges(lab, 90)

    assert daemon.saying("a bug of byfahrer") == []


def test_an_engine_in_trouble_is_told_of_in_its_own_words_and_not_asked_all_the_time(lab, injector, meddler, fault):
    broken = fault(
        16,
        "every start fails with 500 for some seconds",
        "said once, tried again with back-off; nothing half made is left",
    )
    failing = meddler.add(Fails("POST", r"/start$"))
    daemon = injector(env=meddler.env).is_ready()
    www = lab.run()
    daemon.says("did not start: the engine answered 500: Internal Server Error: a fault of the test")
    wait_until(lambda: len(meddler.asked("POST", r"/start$")) >= 3, 30)
    assert len(lab.sidecars(www)) <= 1
    meddler.rules.remove(failing)
    broken.happens()
    broken.converges(lab)

    assert len([line for line in daemon.saying("did not start") if "ERROR" in line]) == 1


def test_an_engine_that_answers_slowly_is_no_fault(lab, injector, meddler, fault):
    broken = fault(
        16, "every call takes a second longer, while five targets start, restart and die", "all is made good, if later"
    )
    slow = meddler.add(Delays(1.0))
    daemon = injector(env=meddler.env)
    targets = [lab.run(f"www{number}") for number in range(5)]
    broken.happens()
    broken.converges(lab, 90)
    lab.api.restart(targets[0], timeout=1)
    lab.remove(targets[1])
    broken.happens()
    broken.converges(lab, 90)
    slow.over()

    assert daemon.saying("ERROR") == []


@pytest.mark.timeout(400)
def test_an_injector_that_is_busy_slows_nobody_and_misses_nothing(nested, nested_injector, nested_meddler, fault, full):
    """The engine waits 100 ms for each event that a client does not take: a minute and more for a thousand."""
    events = 3000 if full else 1500
    broken = fault(
        18,
        f"what it asks of the engine takes a minute, while there are {events} events",
        "other clients are not slowed; then all is made good",
    )
    nested_injector(env=nested_meddler.env).is_ready()
    dies, noisy = nested.run("dies"), nested.run("noisy")
    for each in (dies, noisy):
        nested.becomes_served(each)
    slow = nested_meddler.add(Delays(60, path=r"/(containers|images)/"))
    waits = []
    for number in range(events):
        begun = time.monotonic()
        nested.api.rename(noisy, f"{nested.mark}-noisy{number}")
        waits.append(time.monotonic() - begun)
    nested.remove(dies)
    fresh = nested.run("fresh")
    assert nested.sidecars(fresh) == []  # it is busy indeed
    slow.over()
    broken.happens()
    broken.converges(nested)
    waits.sort()
    broken.measured(f"others waited {waits[len(waits) // 2] * 1000:.1f} ms, at most {waits[-1] * 1000:.0f}")

    assert sum(wait >= 0.1 for wait in waits) < events // 10  # or the engine waited for us at most of them


def test_commands_say_what_is_wrong_with_the_engine(lab, proxy):
    proxy.close()
    done = byfahrer("ps", env=proxy.env)

    assert done.code == 1
    assert done.err.startswith("byfahrer: no engine at unix://")
