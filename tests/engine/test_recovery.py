"""Stopping the injector takes no sidecar away; ejecting does. What it makes good afterwards: faults/."""

from __future__ import annotations

import signal

import pytest

from lab.injector import byfahrer


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
