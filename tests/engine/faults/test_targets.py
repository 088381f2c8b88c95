"""Whatever becomes of a target, its sidecar is where it is, or gone with it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from lab.faults import complaints, never_two
from lab.meddler import Holds
from lab.waiting import wait_until

PLAIN = "debian:trixie-slim"


def test_the_sidecar_goes_with_its_target_however_that_ends(lab, injector, fault):
    broken = fault(
        1, "killed -9, `docker kill`, `stop`, `rm -f`, its own end with `--rm`, all at once", "no sidecar is left"
    )
    injector().is_ready()
    crashes, killed, stopped, removed = (lab.run(name) for name in ("crashes", "killed", "stopped", "removed"))
    job = lab.run("job", host={"auto_remove": True})
    for each in (crashes, killed, stopped, removed, job):
        lab.becomes_served(each)

    lab.crash(crashes)
    lab.api.kill(killed)
    lab.api.stop(stopped, timeout=5)
    lab.remove(removed)
    lab.crash(job)
    broken.happens()
    broken.holds_once(lambda: not lab.sidecars())


def test_a_target_that_restarts_has_the_same_sidecar_in_its_new_namespace(lab, injector, fault):
    broken = fault(
        3, "`docker restart`, five times", "the same sidecar serves in the new namespace; never are there two"
    )
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    with never_two(lab, www):
        for _ in range(5):
            lab.api.restart(www, timeout=5)
            broken.happens()
            broken.converges(lab)

    assert lab.sidecars(www)[0]["Id"] == before["Id"]


def test_twenty_restarts_in_a_row_end_with_one_sidecar_and_no_complaint(lab, injector, fault, full):
    number = 3 if full else 1
    what = f"`docker restart`, twenty times in a row, of {number} at once"
    broken = fault(3, what, "one sidecar each in the end, no error")
    daemon = injector().is_ready()
    targets = [lab.run(f"www{each}") for each in range(number)]
    for each in targets:
        lab.becomes_served(each)

    def restart(target_id):
        for _ in range(20):
            lab.api.restart(target_id, timeout=0)

    with ThreadPoolExecutor(len(targets)) as pool:
        list(pool.map(restart, targets))
    broken.happens()
    broken.converges(lab)

    assert daemon.saying("ERROR") == []


def test_a_crash_with_a_restart_policy_is_a_restart(lab, injector, fault):
    broken = fault(3, "a crash, and `--restart always`", "its sidecar serves in the new namespace")
    injector().is_ready()
    www = lab.run(host={"restart_policy": {"Name": "always"}})
    lab.becomes_served(www)
    started = lab.look(www)["State"]["StartedAt"]
    lab.crash(www)
    wait_until(lambda: lab.look(www)["State"]["StartedAt"] != started)
    broken.happens()
    broken.converges(lab)


def test_a_crash_loop_costs_little_and_leaves_nothing(lab, injector, meddler, fault, full):
    broken = fault(
        4, "ends after 50 ms, with `--restart always`, three of them", "at most a try a second each; nothing is left"
    )
    seconds = 60 if full else 15
    daemon = injector(env=meddler.env).is_ready()
    calm = lab.run("calm")
    loops = [
        lab.run(f"loop{number}", PLAIN, command=["sh", "-c", "sleep 0.05; exit 1"],
                host={"restart_policy": {"Name": "always"}})
        for number in range(3)
    ]  # fmt: skip
    lab.becomes_served(calm)
    wait_until(lambda: min(lab.look(each)["RestartCount"] for each in loops) >= 4, 60)
    used, begun = daemon.cpu_seconds, time.monotonic()
    while (lasted := time.monotonic() - begun) < seconds:
        assert lab.served(calm)
        assert all(len(lab.sidecars(each)) <= 1 for each in loops)
        time.sleep(0.5)
    tries = [at for at in meddler.asked("POST", r"/(re)?start") if begun <= at <= begun + lasted]
    broken.measured(f"{len(tries)} tries in {lasted:.0f} s, {(daemon.cpu_seconds - used) / lasted:.1%} of a core")
    for each in loops:
        lab.remove(each)
    broken.happens()
    broken.converges(lab)

    assert len(tries) <= len(loops) * (lasted + 1)
    assert daemon.saying("a bug of byfahrer") == []


def test_a_target_that_vanishes_before_its_sidecar_starts_leaves_no_trace(lab, injector, meddler, fault):
    broken = fault(
        5,
        "`docker rm -f` between create and start; and the own end of one with `--rm`",
        "what was created goes; no retry",
    )
    injector(env=meddler.env).is_ready()
    for name, host in (("removed", {}), ("job", {"auto_remove": True})):
        held = meddler.add(Holds("POST", r"/containers/[0-9a-f]{64}/start"))
        target = lab.run(name, host=host)
        held.is_reached()
        (sidecar,) = lab.sidecars(target)
        assert sidecar["State"]["Status"] == "created"
        if host:
            lab.crash(target)
            wait_until(lambda gone=target: lab.look(gone) is None)
        else:
            lab.remove(target)
        broken.happens()
        held.go()
        broken.holds_once(lambda gone=target: not lab.sidecars(gone))
        meddler.rules.clear()
        other = lab.run(f"after-{name}")
        lab.becomes_served(other)

        assert len(meddler.asked("POST", f"/containers/{sidecar['Id']}/start")) == 1
        assert complaints(lab) == []


def test_a_paused_target_keeps_its_sidecar_and_its_clients_are_told(lab, injector, fault):
    broken = fault(
        6,
        "`docker pause`, a request meanwhile, `unpause`",
        "504 in time; then 200 from the same sidecar, not restarted",
    )
    daemon = injector("--resync", "1").is_ready()
    www = lab.run(labels={"byfahrer.response-timeout": "2s", "byfahrer.connect-timeout": "2s"})
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    lab.api.pause(www)
    answer = lab.fetch(www)
    lab.becomes_served(lab.run("other"))  # so that events and a resync have passed
    lab.api.unpause(www)
    broken.happens()
    broken.converges(lab)
    (after,) = lab.sidecars(www)

    assert answer[0] == 504
    assert after["Id"] == before["Id"]
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert daemon.saying("Remove") == []


def test_a_target_out_of_memory_loses_its_sidecar_only_if_it_dies(lab, injector, fault):
    broken = fault(
        7, "the kernel kills a child of the target, then its first process", "the child: nothing; the target: reaped"
    )
    injector().is_ready()
    little = {"mem_limit": "48m"}
    lives = lab.run("lives", host=little)
    dies = lab.run("dies", PLAIN, command=["sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exec tail /dev/zero"],
                   host=little)  # fmt: skip
    wait_until(lambda: len(lab.sidecars(dies)) == 1)
    lab.becomes_served(lives)
    (before,) = lab.sidecars(lives)
    assert lab.attempt(lives, "/usr/bin/python3", "-c", "bytearray(1 << 28)")[0] == 137
    lab.execute(dies, "touch", "/go")
    wait_until(lambda: lab.status(dies) == "exited")
    broken.happens()
    broken.holds_once(lambda: not lab.sidecars(dies))

    assert complaints(lab) == []
    assert lab.look(dies)["State"]["OOMKilled"]
    assert lab.sidecars(lives)[0]["State"]["StartedAt"] == before["State"]["StartedAt"]


def test_a_renamed_target_keeps_its_sidecar_and_a_newcomer_gets_its_own(lab, injector, fault):
    broken = fault(
        8, "`docker rename`, and a newcomer under the old name", "the sidecar runs on; the newcomer gets its own"
    )
    injector().is_ready()
    first = lab.run()
    lab.becomes_served(first)
    (before,) = lab.sidecars(first)
    lab.api.rename(first, f"{lab.mark}-old")
    lab.run()
    broken.happens()
    broken.converges(lab)
    (after,) = lab.sidecars(first)

    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])


def test_a_target_made_anew_under_its_old_name_has_a_new_sidecar(lab, injector, fault):
    broken = fault(8, "removed and made anew under its name, as `compose up` does", "a new sidecar; the old one goes")
    injector().is_ready()
    old = lab.run()
    lab.becomes_served(old)
    for _ in range(3):
        lab.remove(old)
        new = lab.run()
        broken.happens()
        broken.converges(lab)

        assert lab.sidecars(old) == []
        old = new


def test_a_target_started_again_later_has_a_new_sidecar(lab, injector, fault):
    broken = fault(1, "stopped, and started again later", "a new sidecar")
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    lab.api.stop(www, timeout=5)
    lab.is_left_alone(www)
    lab.api.start(www)
    broken.happens()
    broken.converges(lab)


def test_networks_that_flap_cost_no_restart(lab, injector, fault):
    broken = fault(
        9,
        "`docker network disconnect`, `connect`, and a second network",
        "the same process serves, on the new address too",
    )
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    for _ in range(3):
        lab.api.disconnect_container_from_network(www, "bridge")
        lab.api.connect_container_to_network(www, "bridge")
        broken.happens()
        broken.converges(lab)
    second = lab.network()
    lab.api.connect_container_to_network(www, second)
    lab.api.disconnect_container_from_network(www, "bridge")
    broken.happens()
    broken.converges(lab)
    (after,) = lab.sidecars(www)

    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
