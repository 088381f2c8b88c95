"""Every running target that asks has exactly one sidecar, in its present network namespace; nobody else has one."""

from __future__ import annotations

import os
import signal

from lab.engine import fetch
from lab.waiting import wait_until


def test_a_target_is_served_when_it_starts(lab, injector):
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)

    (sidecar,) = lab.sidecars(www)
    assert sidecar["Name"] == f"/{lab.mark}-www-proxy"
    assert fetch(lab.address(www)) == (200, "Welcome: pi(20)=3.189185\n")
    daemon.says(f"Create proxy container '{lab.mark}-www-proxy' for '{lab.mark}-www'")


def test_the_label_of_2017_is_the_same(lab, injector):
    injector().is_ready()
    lab.becomes_served(lab.run(asks=False, labels={"org.qnib.byfahrer.proxy-image": "sslterm"}))


def test_settings_of_the_labels_reach_the_sidecar(lab, injector):
    injector().is_ready()
    www = lab.run(labels={"byfahrer.frontend": ":443", "byfahrer.backend": "auto", "byfahrer.log-format": "json"})
    wait_until(lambda: fetch(lab.address(www), port=443), 20)
    (sidecar,) = lab.sidecars(www)

    assert lab.api.logs(sidecar["Id"]).startswith(b"{")


def test_who_runs_already_is_served_when_the_injector_starts(lab, injector):
    targets = [lab.run(name) for name in ("one", "two")]
    injector().is_ready()

    assert all(len(lab.sidecars(each)) == 1 for each in targets)
    for each in targets:
        lab.becomes_served(each)


def test_who_does_not_ask_gets_nothing(lab, injector):
    plain = lab.run("plain", asks=False)
    opted_out = lab.run("out", labels={"byfahrer.enable": "false"})
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)

    assert lab.sidecars(plain) == lab.sidecars(opted_out) == []
    assert len(lab.sidecars()) == 1
    assert daemon.saying("ERROR") == []


def test_the_sidecar_goes_when_its_target_is_stopped_killed_or_removed(lab, injector):
    injector().is_ready()
    ends = {
        "stopped": lambda i: lab.api.stop(i, timeout=1),
        "killed": lab.api.kill,
        "removed": lambda i: lab.api.remove_container(i, force=True),
    }
    for name, end in ends.items():
        target = lab.run(name)
        lab.becomes_served(target)
        end(target)
        lab.is_left_alone(target)


def test_the_sidecar_goes_when_its_target_ends_by_itself(lab, injector):
    injector().is_ready()
    job = lab.run("job", host={"auto_remove": True})
    lab.becomes_served(job)
    lab.api.kill(job, signal.SIGKILL)
    lab.is_left_alone(job)


def test_a_restarted_target_has_its_sidecar_back_in_its_new_namespace(lab, injector):
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    before = lab.sidecars(www)[0]["Id"]
    for _ in range(3):
        lab.api.restart(www, timeout=1)
        lab.becomes_served(www)

    assert lab.sidecars(www)[0]["Id"] == before


def test_twenty_restarts_in_a_row_end_with_one_sidecar_and_no_complaint(lab, injector):
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    for _ in range(20):
        lab.api.restart(www, timeout=0)
    lab.becomes_served(www)

    assert daemon.saying("ERROR") == []


def test_a_crash_with_a_restart_policy_is_a_restart(lab, injector):
    injector().is_ready()
    www = lab.run(host={"restart_policy": {"Name": "always"}})
    lab.becomes_served(www)
    started = lab.look(www)["State"]["StartedAt"]
    # Not through the engine: that would cancel the policy.
    os.kill(lab.look(www)["State"]["Pid"], signal.SIGKILL)
    wait_until(lambda: lab.look(www)["State"]["StartedAt"] != started)
    lab.becomes_served(www)


def test_a_target_started_again_later_has_a_new_sidecar(lab, injector):
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    lab.api.stop(www, timeout=1)
    lab.is_left_alone(www)
    lab.api.start(www)
    lab.becomes_served(www)


def test_a_target_made_anew_under_its_old_name_has_a_new_sidecar(lab, injector):
    injector().is_ready()
    first = lab.run()
    lab.becomes_served(first)
    lab.remove(first)
    second = lab.run()
    lab.becomes_served(second)

    lab.is_left_alone(first)


def test_a_renamed_target_keeps_its_sidecar_and_a_newcomer_gets_its_own(lab, injector):
    injector().is_ready()
    first = lab.run()
    lab.becomes_served(first)
    sidecar = lab.sidecars(first)[0]["Id"]
    lab.api.rename(first, f"{lab.mark}-old")
    second = lab.run()
    lab.becomes_served(second)
    lab.becomes_served(first)

    assert lab.sidecars(first)[0]["Id"] == sidecar


def test_a_paused_target_keeps_its_sidecar(lab, injector):
    daemon = injector("--resync", "1").is_ready()
    www = lab.run()
    lab.becomes_served(www)
    sidecar = lab.sidecars(www)[0]["Id"]
    lab.api.pause(www)
    other = lab.run("other")
    lab.becomes_served(other)  # so that events and a resync have passed
    lab.api.unpause(www)
    lab.becomes_served(www)

    assert lab.sidecars(www)[0]["Id"] == sidecar
    assert daemon.saying("Remove") == []


def test_a_sidecar_that_dies_or_is_removed_comes_back(lab, injector):
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    lab.api.kill(lab.sidecars(www)[0]["Id"])
    wait_until(lambda: [s for s in lab.sidecars(www) if s["State"]["Status"] == "running"])
    lab.becomes_served(www)
    lab.remove(lab.sidecars(www)[0]["Id"])
    lab.becomes_served(www)


def test_a_crash_looping_target_leaves_no_containers_behind(lab, injector):
    daemon = injector().is_ready()
    loop = lab.run("loop", "debian:trixie-slim", command=["false"], host={"restart_policy": {"Name": "always"}})
    wait_until(lambda: lab.look(loop)["RestartCount"] >= 4)
    lab.remove(loop)
    lab.is_left_alone(loop)

    assert daemon.saying("a bug of byfahrer") == []


def test_its_own_sidecars_are_never_targets(lab, injector):
    daemon = injector("--resync", "1").is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (sidecar,) = lab.sidecars(www)
    pretender = lab.run("pretender", labels={"byfahrer.target": "f" * 64})  # on a network of its own: it is none
    lab.becomes_served(pretender)
    lab.becomes_served(www)

    assert lab.sidecars(sidecar["Id"]) == []
    assert daemon.saying("-proxy-proxy") == []
