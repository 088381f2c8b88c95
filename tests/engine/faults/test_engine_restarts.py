"""An engine that restarts, is killed, or was away while things happened: afterwards everything is as promised."""

from __future__ import annotations

import pytest

from lab.faults import complaints
from lab.waiting import wait_until

ALWAYS = {"restart_policy": {"Name": "always"}}


def all_run(lab, targets):
    wait_until(lambda: all(lab.status(each) == "running" for each in targets), 60)


@pytest.mark.timeout(300)
def test_after_a_graceful_restart_every_pair_is_whole(nested, nested_injector, fault, full):
    pairs, rounds = (10, 4) if full else (5, 2)
    broken = fault(
        13,
        f"`dockerd` restarts with {pairs} pairs, `--restart always`, {rounds} rounds",
        "all pairs are whole each time",
    )
    daemon = nested_injector().is_ready()
    targets = [nested.run(f"www{number}", host=ALWAYS) for number in range(pairs)]
    for each in targets:
        nested.becomes_served(each, 60)
    for number in range(rounds):
        nested.engine.restart()
        broken.happens()
        daemon.says("Connected to", times=number + 2)
        broken.converges(nested)

    assert all(nested.status(each) == "running" for each in targets)


def test_targets_that_stay_down_get_no_sidecar(nested, nested_injector, fault):
    broken = fault(
        13, "`dockerd` restarts, and targets have no restart policy", "they stay down, and their sidecars go"
    )
    nested_injector().is_ready()
    stays = nested.run("stays")
    nested.run("back", host=ALWAYS)
    nested.becomes_served(stays)
    nested.engine.restart()
    broken.happens()
    broken.converges(nested)

    assert nested.status(stays) == "exited"
    assert nested.sidecars(stays) == []


@pytest.mark.timeout(300)
def test_after_a_kill_every_pair_is_whole(nested, nested_injector, fault, full):
    pairs = 10 if full else 4
    broken = fault(
        14,
        f"`kill -9` of `dockerd` with {pairs} pairs, half of them `unless-stopped`",
        "who runs again is served; who does not is not",
    )
    daemon = nested_injector().is_ready()
    policies = ["always", "unless-stopped"]
    for number in range(pairs):
        nested.run(f"www{number}", host={"restart_policy": {"Name": policies[number % 2]}})
    wait_until(lambda: not complaints(nested), 60)
    nested.engine.restart("KILL")
    broken.happens()
    daemon.says("Connected to", times=2)
    broken.converges(nested)
    assert len(daemon.saying("ended; trying again")) == 1
    assert daemon.saying("a bug of byfahrer") == []


def test_with_live_restore_sidecars_serve_on_without_an_engine(nested, nested_injector, fault):
    broken = fault(
        15, "`dockerd --live-restore` is away, then back", "the same sidecars serve all the while, never restarted"
    )
    with nested.engine.option("--live-restore"):
        nested_injector().is_ready()
        www = nested.run()
        nested.becomes_served(www)
        (before,) = nested.sidecars(www)
        address = nested.address(www)
        with nested.engine.away():
            assert nested.fetch_at(address)[0] == 200
        broken.happens()
        broken.converges(nested)
        (after,) = nested.sidecars(www)

        assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])


@pytest.mark.timeout(180)
def test_a_death_that_nobody_saw_is_found_and_its_orphan_never_answers_for_the_next(nested, nested_injector, fault):
    broken = fault(15, "targets die while `dockerd --live-restore` is away; one is started again at once, one later",
                   "orphans go; whoever is started is served by a sidecar of its own")  # fmt: skip
    with nested.engine.option("--live-restore"):
        nested_injector().is_ready()
        later, at_once, stays = (nested.run(name) for name in ("later", "at-once", "stays"))
        for each in (later, at_once, stays):
            nested.becomes_served(each)
        pids = [nested.look(each)["State"]["Pid"] for each in (later, at_once)]
        nested.engine.restart(meanwhile=lambda: [nested.engine.kill(pid) for pid in pids])
        nested.api.start(at_once)
        broken.happens()
        broken.converges(nested)
        assert nested.sidecars(later) == []
        nested.api.start(later)
        broken.happens()
        broken.converges(nested)


def test_a_sidecar_that_died_while_the_engine_was_away_is_back(nested, nested_injector, fault):
    broken = fault(15, "a sidecar dies while `dockerd --live-restore` is away", "it is started again")
    with nested.engine.option("--live-restore"):
        nested_injector().is_ready()
        www = nested.run()
        nested.becomes_served(www)
        pid = nested.sidecars(www)[0]["State"]["Pid"]
        nested.engine.restart("KILL", meanwhile=lambda: nested.engine.kill(pid))
        broken.happens()
        broken.converges(nested)
