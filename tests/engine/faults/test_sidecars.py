"""Whatever becomes of a sidecar, its target has one again, and is never touched itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from byfahrer.serving.client import get
from lab.meddler import Rewrites
from lab.waiting import wait_until

PLAIN = "debian:trixie-slim"


def started(lab, container_id):
    return lab.look(container_id)["State"]["StartedAt"]


def sidecar_of(lab, target_id):
    """The one that runs."""
    return wait_until(lambda: [s for s in lab.sidecars(target_id) if s["State"]["Status"] == "running"], 60)[0]


def has_reported(home, target_id):
    """Whether the injector has heard of a target's sidecar."""
    told = get(home.path / "state" / "admin.sock", "/status") or {"targets": []}
    return any(each["id"] == target_id and each["report"] for each in told["targets"])


def runs_no_more(lab, sidecar):
    """Whether this very run of it is over."""
    now = lab.look(sidecar["Id"])
    return now is None or now["State"]["StartedAt"] != sidecar["State"]["StartedAt"] or not now["State"]["Running"]


def test_a_sidecar_that_crashes_again_and_again_comes_back_ever_later(lab, injector, fault, full):
    broken = fault(
        10, "`kill -9` of the sidecar's process, again and again", "started again, with back-off; the target runs on"
    )
    injector().is_ready()
    www, calm = lab.run(), lab.run("calm")
    lab.becomes_served(www)
    lab.becomes_served(calm)
    before = started(lab, www)
    for _ in range(6 if full else 3):
        lab.crash(sidecar_of(lab, www)["Id"])
        broken.happens()
        broken.converges(lab, 90)

    assert started(lab, www) == before


def test_a_sidecar_that_is_killed_removed_or_out_of_memory_comes_back(lab, injector, fault):
    broken = fault(
        10, "`docker kill`, `docker rm -f`, and out of memory, of three sidecars at once", "each target has one again"
    )
    injector().is_ready()
    targets = [lab.run(name) for name in ("killed", "removed", "oom")]
    for each in targets:
        lab.becomes_served(each)
    killed, removed, out_of_memory = (sidecar_of(lab, each) for each in targets)
    # The kernel takes whom it finds worst: the first process, though another one asks for the memory.
    Path(f"/proc/{out_of_memory['State']['Pid']}/oom_score_adj").write_text("1000")
    made = lab.api.exec_create(out_of_memory["Id"], ["/usr/bin/python3", "-c", "bytearray(1 << 30)"])["Id"]
    lab.api.kill(killed["Id"])
    lab.remove(removed["Id"])
    lab.api.exec_start(made)
    wait_until(lambda: all(runs_no_more(lab, each) for each in (killed, removed, out_of_memory)))
    broken.happens()
    broken.converges(lab)


def test_a_sidecar_that_crashed_while_its_target_was_down_is_there_when_it_is_back(lab, injector, fault):
    broken = fault(
        11, "the target stops, its sidecar is killed, the target starts", "one sidecar, in the new namespace"
    )
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    sidecar = sidecar_of(lab, www)
    daemon.freeze()  # or it would be faster
    lab.crash(www)
    lab.crash(sidecar["Id"])
    wait_until(lambda: not lab.look(sidecar["Id"])["State"]["Running"])
    lab.api.start(www)
    daemon.thaw()
    broken.happens()
    broken.converges(lab)


def test_a_signal_through_the_engine_ends_nothing_for_good(lab, injector, fault):
    broken = fault(
        12,
        "`docker kill -s HUP` of the sidecar, then `kill -9`",
        "it reloads and runs on; after the crash it comes back",
    )
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    sidecar = sidecar_of(lab, www)
    lab.api.kill(sidecar["Id"], "HUP")
    wait_until(lambda: b"HUP" in lab.api.logs(sidecar["Id"]) or b"eload" in lab.api.logs(sidecar["Id"]))
    assert lab.served(www)
    assert started(lab, sidecar["Id"]) == sidecar["State"]["StartedAt"]
    lab.crash(sidecar["Id"])
    broken.happens()
    broken.converges(lab)


@pytest.mark.timeout(400)
def test_a_sidecar_that_hangs_is_restarted(lab, injector, home, fault):
    broken = fault(10, "the sidecar's process hangs (SIGSTOP)", "restarted after three reports that do not come")
    daemon = injector().is_ready()
    hangs, calm = lab.run("hangs"), lab.run("calm")
    for each in (hangs, calm):
        lab.becomes_served(each)
    before = {each["Id"]: each["State"]["StartedAt"] for each in lab.sidecars()}
    sidecar, lives = sidecar_of(lab, hangs), started(lab, hangs)
    wait_until(lambda: has_reported(home, hangs), 60)
    lab.stop_process(sidecar["Id"])
    broken.happens()
    broken.converges(lab, 180)
    after = {each["Id"]: each["State"]["StartedAt"] for each in lab.sidecars()}

    assert started(lab, hangs) == lives
    assert [each for each in before if after.get(each) != before[each]] == [sidecar["Id"]]
    assert len(daemon.saying("Restart proxy container")) == 1


def test_a_sidecar_that_the_engine_calls_unhealthy_is_restarted(lab, injector, meddler, fault):
    broken = fault(10, "the engine calls the sidecar unhealthy (`--authority off`)", "restarted")
    injector("--authority", "off", "--resync", "1", env=meddler.env).is_ready()
    www = lab.run()
    lab.becomes_served(www)
    sidecar = sidecar_of(lab, www)

    def unhealthy(told):
        if told["State"]["StartedAt"] == sidecar["State"]["StartedAt"]:
            told["State"]["Health"] = {"Status": "unhealthy", "FailingStreak": 3, "Log": []}
        return told

    def listed(told):
        for each in told:
            if each["Id"] == sidecar["Id"] and started(lab, sidecar["Id"]) == sidecar["State"]["StartedAt"]:
                each["Status"] = "Up 5 minutes (unhealthy)"
        return told

    meddler.add(Rewrites(unhealthy, "GET", f"/containers/{sidecar['Id']}/json"))
    meddler.add(Rewrites(listed, "GET", "/containers/json"))
    broken.happens()
    broken.holds_once(lambda: started(lab, sidecar["Id"]) != sidecar["State"]["StartedAt"])
    lab.becomes_served(www)


def test_a_name_that_a_stranger_has_is_named_and_used_as_soon_as_it_is_free(lab, injector, fault):
    broken = fault(
        10,
        "a stranger has the sidecar's name, and gives it up",
        "said once; served when it is free; the stranger is left alone",
    )
    daemon = injector().is_ready()
    good, late = lab.run("good"), lab.run("late", start=False)
    stranger = lab.run("late-proxy", asks=False)
    lab.api.start(late)
    daemon.says(f"the name '{lab.mark}-late-proxy' is taken by container {stranger[:12]}, which is not ours")
    lab.becomes_served(good)
    assert lab.status(stranger) == "running"
    lab.remove(stranger)
    broken.happens()
    broken.converges(lab, 90)


@pytest.mark.parametrize("address", ["0.0.0.0:8081", "127.0.0.1:8081", "[::]:8081"])
def test_a_port_that_its_target_has_is_told_and_the_target_works(lab, injector, fault, address):
    broken = fault(
        20,
        f"the target listens on {address} itself, then it is made anew and does not",
        "one clear reason; the target works; served then",
    )
    daemon = injector().is_ready()
    busy = lab.run("busy", environment={"HTTPCHECK_ADDR": address})
    told = f"'{lab.mark}-busy': port conflict: ERROR frontend-addr=:8081: already in use"
    daemon.says(told)
    daemon.says(f"'{lab.mark}-busy-proxy' started", times=3)
    assert len(daemon.saying(told)) == 1
    assert lab.status(busy) == "running"
    assert len(lab.sidecars(busy)) == 1
    lab.remove(busy)
    lab.run("busy")
    broken.happens()
    broken.converges(lab)


def test_awkward_targets_are_refused_with_a_reason_or_served(lab, injector, fault):
    broken = fault(21, "networks host, none, container:…; `ip_unprivileged_port_start=1024`; more rights; paused",
                   "refused with a reason, or served; no sysctl is changed")  # fmt: skip
    command = {"command": ["sleep", "1000"]}
    owner = lab.run("owner")
    refused = {
        "host": lab.run("host", PLAIN, host={"network_mode": "host"}, **command),
        "none": lab.run("none", PLAIN, host={"network_mode": "none"}, **command),
        f"container:{owner[:12]}": lab.run("joined", PLAIN, host={"network_mode": f"container:{owner}"}, **command),
    }
    strict = lab.run("sysctl", host={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "1024"}})
    lab.run("caps", host={"cap_add": ["NET_ADMIN"], "security_opt": ["seccomp=unconfined"]})
    paused = lab.run("paused")
    lab.api.pause(paused)
    daemon = injector().is_ready()
    for mode in refused:
        daemon.says(f"--network {mode}: expected a bridge, overlay or other network of its own")
    wait_until(lambda: len(lab.sidecars(paused)) == 1)
    lab.api.unpause(paused)
    for each in (owner, strict, paused):
        lab.becomes_served(each)
    setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

    assert [lab.sidecars(each) for each in refused.values()] == [[], [], []]
    assert lab.execute(strict, "/usr/bin/python3", "-c", f"print(open('{setting}').read())").strip() == "1024"
    lab.remove(owner)  # takes the namespace with it, but not who joined it
    broken.happens()
    broken.holds_once(lambda: not lab.sidecars(owner))
