"""Whatever the injector missed, or was interrupted in, is made good; and stopping it takes no sidecar away."""

from __future__ import annotations

import signal

import pytest

from lab.engine_proxy import EngineProxy
from lab.injector import byfahrer


@pytest.fixture
def proxy(tmp_path):
    made = EngineProxy(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_leaves_sidecars_running_and_exits_0(lab, injector, number):
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    before = lab.sidecars(www)[0]["State"]["StartedAt"]

    assert daemon.stop(number) == 0
    assert lab.served(www)
    assert lab.sidecars(www)[0]["State"]["StartedAt"] == before

    injector().is_ready()
    assert lab.sidecars(www)[0]["State"]["StartedAt"] == before


def test_orphans_are_reaped_at_the_start(lab, injector):
    daemon = injector().is_ready()
    gone, stopped = lab.run("gone"), lab.run("stopped")
    for each in (gone, stopped):
        lab.becomes_served(each)
    daemon.stop(signal.SIGKILL)
    lab.remove(gone)
    lab.api.kill(stopped)
    assert len(lab.sidecars()) == 2

    injector().is_ready()
    assert lab.sidecars() == []


def test_a_restart_while_the_injector_was_down_is_noticed(lab, injector):
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    daemon.stop(signal.SIGKILL)
    lab.api.restart(www, timeout=1)
    assert not lab.served(www)

    injector().is_ready()
    lab.becomes_served(www)


def test_an_injector_that_was_frozen_catches_up(lab, injector):
    daemon = injector().is_ready()
    dies, restarts = lab.run("dies"), lab.run("restarts")
    for each in (dies, restarts):
        lab.becomes_served(each)
    daemon.send(signal.SIGSTOP)
    lab.remove(dies)
    lab.api.restart(restarts, timeout=1)
    fresh = lab.run("fresh")
    daemon.send(signal.SIGCONT)

    lab.is_left_alone(dies)
    lab.becomes_served(restarts)
    lab.becomes_served(fresh)


def test_events_that_never_arrive_are_made_good_by_the_resync(lab, injector, proxy):
    injector("--resync", "1", env=proxy.env).is_ready()
    dies = lab.run("dies")
    lab.becomes_served(dies)
    proxy.deaf = True
    lab.remove(dies)
    fresh = lab.run("fresh")

    lab.is_left_alone(dies)
    lab.becomes_served(fresh)


def test_an_engine_that_goes_away_and_comes_back_is_waited_for(lab, injector, proxy):
    daemon = injector(env=proxy.env).is_ready()
    dies = lab.run("dies")
    lab.becomes_served(dies)
    proxy.close()
    daemon.says("; trying again")
    lab.remove(dies)
    fresh = lab.run("fresh")
    proxy.open()
    daemon.says("Connected to", times=2)

    lab.is_left_alone(dies)
    lab.becomes_served(fresh)
    assert len(daemon.saying("No engine at")) == 1


def test_an_engine_that_is_not_there_yet_is_waited_for(lab, injector, proxy):
    proxy.close()
    daemon = injector(env=proxy.env)
    daemon.says("No engine at unix://")
    www = lab.run()
    proxy.open()
    lab.becomes_served(www)


def test_an_engine_that_hangs_does_not_keep_the_injector_from_stopping(lab, injector, proxy):
    daemon = injector(env=proxy.env).is_ready()
    proxy.hangs = True
    lab.run()

    assert daemon.stop() == 0


def test_a_sidecar_that_was_created_and_never_started_is_adopted(lab, injector):
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    made = lab.sidecars(www)[0]
    lab.clean()

    # Killed between create and start, an injector leaves this:
    www = lab.run()
    lab.api.create_container(
        "sslterm", name=made["Name"].lstrip("/"),
        labels=made["Config"]["Labels"] | {"byfahrer.target": www},
        host_config=lab.api.create_host_config(network_mode=f"container:{www}"),
    )  # fmt: skip
    injector().is_ready()
    lab.becomes_served(www)


def test_two_injectors_at_once_are_harmless(lab, injector):
    first, second = injector(), injector()
    first.is_ready()
    second.is_ready()
    targets = [lab.run(f"www{number}") for number in range(5)]
    for each in targets:
        lab.becomes_served(each)
    for each in targets[:2]:
        lab.api.restart(each, timeout=1)
    for each in targets:
        lab.becomes_served(each)
    for each in targets:
        lab.remove(each)
    lab.is_left_alone()

    assert first.saying("ERROR") == second.saying("ERROR") == []


def test_eject_all_removes_what_is_ours_and_nothing_else(lab, injector):
    daemon = injector().is_ready()
    targets = [lab.run(name) for name in ("one", "two")]
    for each in targets:
        lab.becomes_served(each)
    by_hand = lab.run("hand", "sslterm", asks=False, host={"network_mode": f"container:{targets[0]}"},
                      environment={"SSLTERM_FRONTEND_ADDR": ":9443"})  # fmt: skip
    daemon.stop()
    done = byfahrer("eject", "--all", "--only-label", lab.scope)

    assert done.code == 0
    assert sorted(done.out.split()) == sorted([f"{lab.mark}-one-proxy", f"{lab.mark}-two-proxy"] + ["removed"] * 2)
    assert done.err.count("a byfahrer that runs puts it back") == 2
    assert lab.sidecars() == []
    assert [lab.status(each) for each in (*targets, by_hand)] == ["running"] * 3
