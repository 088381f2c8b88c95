"""Labels can stand on any container, by its image too: nobody gains anything by ours, and nobody else is harmed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab.waiting import wait_until

SLEEP = {"image": "debian:trixie-slim", "command": ["sleep", "1000"], "asks": False}


def test_who_only_says_that_it_is_a_sidecar_is_neither_removed_nor_adopted_nor_copied(lab, injector):
    victim = lab.run("victim", asks=False)
    served = lab.run("served")
    forged = {"byfahrer.manual": "true", "byfahrer.proxy-image": "sslterm"}
    pretenders = [
        lab.run("by-name", labels={"byfahrer.target": f"{lab.mark}-victim"} | forged, **SLEEP),
        lab.run("by-part", labels={"byfahrer.target": victim[:12]} | forged, **SLEEP),
        lab.run("by-id", labels={"byfahrer.target": victim, "byfahrer.manual": "true"}, **SLEEP),
        lab.run("orphan", labels={"byfahrer.target": "f" * 64}, **SLEEP),
    ]
    daemon = injector("--resync", "1").is_ready()
    lab.becomes_served(served)
    (genuine,) = lab.sidecars(served)
    digest = genuine["Config"]["Labels"]["byfahrer.spec"]
    pretenders.append(
        lab.run("adopt", labels={"byfahrer.target": served, "byfahrer.spec": digest}, start=False, **SLEEP)
    )
    time.sleep(3)

    assert [lab.status(each) for each in pretenders] == ["running"] * 4 + ["created"]
    assert lab.look(f"{lab.mark}-victim-proxy") is None
    assert lab.status(genuine["Id"]) == "running"
    assert daemon.saying("Remove proxy container") == []


def test_a_copy_of_the_labels_in_the_targets_own_network_is_no_sidecar_either(lab, injector):
    www = lab.run()
    first = injector().is_ready()
    lab.becomes_served(www)
    carried = lab.sidecars(www)[0]["Config"]["Labels"]
    first.stop()
    lab.remove(lab.sidecars(www)[0]["Id"])
    copy = lab.run("copy", labels=carried, host={"network_mode": f"container:{www}"}, **SLEEP)
    injector().is_ready().says("it is not what it says it is")
    wait_until(lambda: lab.status(copy) == "gone", 20)

    lab.becomes_served(www)


def test_an_ordinary_target_does_not_wait_for_others_that_ignore_their_end(lab, injector):
    """Real ones, in the network of targets that do not ask for any: each is stopped first, and does not listen."""
    for number in range(8):
        key = lab.run(f"t{number}", **SLEEP)
        lab.run(
            f"s{number}", labels={"byfahrer.target": key}, host={"network_mode": f"container:{key}"},
            **(SLEEP | {"command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]}),
        )  # fmt: skip
    daemon = injector()
    daemon.says("Remove proxy container", times=8)
    www = lab.run()

    lab.becomes_served(www, 6)


@pytest.mark.parametrize("path", ["../images/debian:trixie-slim/get", "../events", "../info"])
def test_the_id_of_a_service_leads_nowhere_else(lab, injector, path):
    daemon = injector("--resync", "1").is_ready()
    process = Path("/proc", str(daemon._process.pid), "status")
    for number in range(8):
        lab.run(f"bad{number}", labels={"com.docker.swarm.service.id": path}, **SLEEP)
    www = lab.run(labels={"com.docker.swarm.service.id": path})
    lab.becomes_served(www, 10)
    time.sleep(2)
    most = next(line for line in process.read_text().splitlines() if line.startswith("VmHWM"))

    assert int(most.split()[1]) < 100_000  # kB; the image is twice that
    assert daemon.saying("ERROR") == []


def test_a_targets_volume_never_covers_the_sidecars_program(lab, injector, tmp_path):
    (tmp_path / "__init__.py").touch()
    (tmp_path / "__main__.py").write_text("print('THE TARGET RUNS HERE')\n")
    tmp_path.chmod(0o755)
    place = "/usr/lib/python3/dist-packages/sslterm"
    daemon = injector().is_ready()
    lab.run(
        labels={
            "org.qnib.gosslterm.ssl.volume.from": "true",
            "org.qnib.gosslterm.ssl.volume.path": place,
        },
        host={"binds": [f"{tmp_path}:{place}:ro"]},
    )
    line = daemon.says("its last words")

    assert "/run/target-ssl/" in line
    assert "THE TARGET" not in line


def test_lines_are_lines(lab, injector):
    daemon = injector().is_ready()
    lab.run("bad", labels={"byfahrer.q\n2026 FORGED \x1b[2J": "1"})
    lab.run("worse", labels={"byfahrer.proxy-image": "sslterm:x\n2026 FORGED \x1b[2J"}, asks=False)
    daemon.says("FORGED", times=2)

    assert not [line for line in daemon.lines if line.startswith("2026 ") or "\x1b" in line]
