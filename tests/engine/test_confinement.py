"""A sidecar can do nothing but its work, and a label cannot change that."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from byfahrer import settings
from lab.engine import fetch
from lab.injector import byfahrer
from lab.waiting import wait_until


@pytest.fixture
def sidecar(lab, injector):
    injector().is_ready()
    www = lab.run(labels={"byfahrer.frontend": ":443"}, ports=[443])
    wait_until(lambda: fetch(lab.address(www), port=443), 20)
    (found,) = lab.sidecars(www)
    return found


def test_it_is_made_without_any_privilege(sidecar):
    host = sidecar["HostConfig"]

    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == 64
    assert host["Memory"] == 256 * 1024**2
    assert host["NanoCpus"] == 0
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["NetworkMode"].startswith("container:")
    assert not host["Binds"]
    assert not host["VolumesFrom"]
    assert not host["PortBindings"]
    assert sidecar["Config"]["User"] == settings.SIDECAR_USER
    assert {(each["Destination"], each["RW"]) for each in sidecar["Mounts"]} == {
        ("/run/byfahrer", False),
        ("/run/sslterm", True),
    }


def test_its_process_has_no_capability_and_its_own_user(sidecar):
    lines = Path(f"/proc/{sidecar['State']['Pid']}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    uid = settings.SIDECAR_USER.partition(":")[0]

    assert status["Uid"].split() == [uid] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"


def test_one_that_reports_to_byfahrer_is_not_probed(sidecar):
    assert sidecar["Config"]["Healthcheck"]["Test"] == ["NONE"]


def test_without_an_authority_the_images_probe_is_kept_and_seldom(lab, injector, engine):
    injector("--authority", "off").is_ready()
    www = lab.run()
    lab.becomes_served(www)
    image = engine.inspect_image("sslterm")["Config"]["Healthcheck"]
    sidecar = lab.sidecars(www)[0]["Config"]["Healthcheck"]

    assert sidecar["Test"] == image["Test"]
    assert sidecar["Interval"] == 120 * 10**9


def test_it_says_whose_it_is_and_keeps_updaters_away(sidecar):
    labels = sidecar["Config"]["Labels"]

    assert labels["byfahrer.target"] == sidecar["HostConfig"]["NetworkMode"].removeprefix("container:")
    assert labels["byfahrer.target-name"].endswith("-www")
    assert len(labels["byfahrer.spec"]) == 16
    assert labels["com.centurylinklabs.watchtower.enable"] == "false"


def test_the_operators_limits_hold(lab, injector):
    injector("--sidecar-memory", "64m", "--sidecar-user", "12345").is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (found,) = lab.sidecars(www)

    assert found["HostConfig"]["Memory"] == 64 * 1024**2
    assert found["Config"]["User"] == "12345"


def test_other_limits_make_other_sidecars(lab, injector):
    first = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    before = lab.sidecars(www)[0]["Id"]
    first.stop()
    injector("--sidecar-memory", "64m").is_ready()
    wait_until(lambda: [each["Id"] for each in lab.sidecars(www)] not in ([], [before]), 30)

    lab.becomes_served(www, 60)


def test_a_certificate_of_the_targets_volumes_is_served_through_that_one_mount(lab, injector, tmp_path):
    folder = tmp_path / "ssl"
    folder.mkdir()
    subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "7",
         "-subj", "/CN=from-the-volume", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        check=True, capture_output=True,
    )  # fmt: skip
    for path in (tmp_path, folder):
        path.chmod(0o755)
    (folder / "key.pem").chmod(0o644)  # the sidecar is not root
    injector().is_ready()
    www = lab.run(
        labels={"org.qnib.gosslterm.ssl.volume.from": "true"},
        host={"binds": [f"{folder}:/opt/qnib/ssl:ro", f"{tmp_path}:/other"]},
    )
    lab.becomes_served(www)
    (found,) = lab.sidecars(www)
    shown = subprocess.run(
        ("openssl", "s_client", "-connect", f"{lab.address(www)}:8081"),
        input="",
        capture_output=True,
        text=True,
        check=False,
    )

    assert "from-the-volume" in shown.stdout
    assert {(m["Destination"], m["RW"]) for m in found["Mounts"]} == {
        ("/run/byfahrer", False),
        ("/run/sslterm", True),
        ("/run/target-ssl", False),
    }
    assert "PRIVATE KEY" not in json.dumps(found)


def test_a_label_cannot_ask_for_another_image_by_likeness(lab, injector):
    daemon = injector("--allow-image", "sslterm:latest").is_ready()
    lab.run("bad", labels={"byfahrer.proxy-image": "sslterm:other"})
    daemon.says("byfahrer.proxy-image='sslterm:other': expected an allowed image (--allow-image): sslterm:latest")
    www = lab.run(labels={"byfahrer.proxy-image": "docker.io/library/sslterm"})
    lab.becomes_served(www)


def test_labels_change_the_limits_within_the_operators_bounds(lab, injector):
    daemon = injector("--sidecar-memory", "256m:512m", "--sidecar-pids", "48:96", "--sidecar-cpus", "1.5").is_ready()
    more = lab.run("more", labels={"byfahrer.memory": "512m", "byfahrer.pids": "96", "byfahrer.cpus": "0.5"})
    plain = lab.run("plain")
    greedy = [
        lab.run(f"greedy{number}", labels={f"byfahrer.{name}": value})
        for number, (name, value) in enumerate([("memory", "513m"), ("pids", "97"), ("cpus", "1.6")])
    ]
    for line in (
        "byfahrer.memory='513m': expected at most 512m (--sidecar-memory)",
        "byfahrer.pids='97': expected at most 96 (--sidecar-pids)",
        "byfahrer.cpus='1.6': expected at most 1.5 (--sidecar-cpus)",
    ):
        daemon.says(line)
    for each in (more, plain):
        lab.becomes_served(each, 60)
    hosts = [lab.sidecars(each)[0]["HostConfig"] for each in (more, plain)]

    assert [(h["Memory"] >> 20, h["PidsLimit"], h["NanoCpus"]) for h in hosts] == [
        (512, 96, 500_000_000),
        (256, 48, 1_500_000_000),
    ]
    assert [lab.sidecars(each) for each in greedy] == [[], [], []]


def test_the_limits_of_an_images_own_labels_go_as_far_as_those_of_anybody(lab, injector):
    image = lab.image("byfahrer.proxy-image=sslterm", "byfahrer.memory=2g", "byfahrer.cap-add=SYS_ADMIN")
    daemon = injector().is_ready()
    www = lab.run(image=image, asks=False)
    daemon.says("byfahrer.memory='2g': expected at most 256m (--sidecar-memory)")
    daemon.says("byfahrer.cap-add='SYS_ADMIN': expected allowed capabilities (--allow-capability): none")

    assert lab.sidecars(www) == []


def test_a_capability_that_the_operator_allows_is_all_that_its_root_has(lab, injector):
    daemon = injector("--allow-capability", "NET_RAW").is_ready()
    www = lab.run(labels={"byfahrer.cap-add": "net_raw"})
    refused = lab.run("refused", labels={"byfahrer.cap-add": "NET_RAW,NET_ADMIN"})
    daemon.says("byfahrer.cap-add='NET_RAW,NET_ADMIN': expected allowed capabilities (--allow-capability): NET_RAW")
    lab.becomes_served(www, 60)
    (found,) = lab.sidecars(www)
    lines = Path(f"/proc/{found['State']['Pid']}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    certificate = daemon.says(f"for '{lab.mark}-www', ")  # it got at the authority

    assert found["HostConfig"]["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in found["HostConfig"]["CapAdd"]] == ["NET_RAW"]
    assert found["Config"]["User"] == "0:64443"
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {1 << 13}
    assert status["NoNewPrivs"] == "1"
    assert "Certificate" in certificate
    assert lab.sidecars(refused) == []


def test_a_capability_that_is_allowed_no_more_goes_with_its_sidecar(lab, injector):
    first = injector("--allow-capability", "NET_RAW").is_ready()
    www = lab.run(labels={"byfahrer.cap-add": "NET_RAW"})
    lab.becomes_served(www, 60)
    first.stop()
    injector().is_ready().says("expected allowed capabilities (--allow-capability): none")

    lab.is_left_alone(www, 30)


def test_who_only_claims_to_be_a_sidecar_is_none_with_a_capability_more(lab, injector):
    www = lab.run()
    first = injector().is_ready()
    lab.becomes_served(www, 60)
    (genuine,) = lab.sidecars(www)
    first.stop()
    lab.remove(genuine["Id"])
    copy = lab.run(
        "copy", "sslterm", labels=genuine["Config"]["Labels"], asks=False, user=genuine["Config"]["User"],
        host={
            "network_mode": f"container:{www}", "cap_drop": ["ALL"], "cap_add": ["NET_ADMIN"], "read_only": True,
            "security_opt": ["no-new-privileges"],
        },
    )  # fmt: skip
    injector("--allow-capability", "NET_ADMIN").is_ready().says("it is not what it says it is: it has NET_ADMIN")
    wait_until(lambda: lab.status(copy) == "gone", 30)

    lab.becomes_served(www, 60)


def test_by_hand_an_operator_may_give_what_labels_may_not_and_a_daemon_leaves_it(lab, injector):
    www = lab.run(asks=False)
    done = byfahrer(
        "inject", f"{lab.mark}-www", "--set", "cap-add=NET_RAW", "--set", "memory=512m", "--only-label", lab.scope
    )
    (found,) = lab.sidecars(www)
    injector("--resync", "1").is_ready()
    time.sleep(3)

    assert done.code == 0, done.err
    assert found["HostConfig"]["Memory"] == 512 * 1024**2
    assert [each["Id"] for each in lab.sidecars(www)] == [found["Id"]]


def test_no_sidecars_log_grows_for_ever(lab, sidecar, engine):
    assert engine.info()["LoggingDriver"] == "json-file"
    assert sidecar["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }


def test_the_log_goes_where_the_operator_says(lab, injector):
    www = lab.run()
    daemon = injector("--sidecar-log-driver", "local", "--sidecar-log-opt", "max-size=1m").is_ready()
    lab.becomes_served(www, 60)
    (found,) = lab.sidecars(www)

    assert found["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {"max-size": "1m"}}
    assert daemon.saying("ERROR") == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--sidecar-log-driver", "nowhere"), 'plugin "nowhere" not found'),
        (("--sidecar-log-opt", "oops=1"), "unknown log opt 'oops' for json-file log driver"),
        (("--sidecar-cpus", "4096"), "CPUs"),
    ],
)
def test_what_the_engine_refuses_is_told_once_in_its_words(lab, injector, options, says):
    www = lab.run()
    daemon = injector(*options, "--resync", "1").is_ready()
    line = daemon.says("cannot be made: ")
    time.sleep(3)

    assert says in line
    assert line.startswith(line.partition(" ERROR ")[0] + f" ERROR   '{lab.mark}-www': its proxy container ")
    assert len([each for each in daemon.saying("cannot be made") if " ERROR " in each]) == 1
    assert lab.sidecars(www) == []


def test_labels_without_the_one_that_asks_are_told_and_an_images_are_not(lab, injector):
    image = lab.image("byfahrer.frontend=:443")
    lab.run("by-image", image=image, asks=False)
    lab.run("off", labels={"byfahrer.frontend": ":443", "byfahrer.enable": "false"}, asks=False)
    lab.run("lone", labels={"byfahrer.frontend": ":443"}, asks=False)
    lab.run("on", labels={"byfahrer.enable": "true"}, asks=False)
    daemon = injector("--resync", "1").is_ready()
    beside = "expected byfahrer.proxy-image beside it, such as sslterm: without it there is no sidecar"
    daemon.says(f"'{lab.mark}-lone': byfahrer.frontend=':443': {beside}")
    daemon.says(f"'{lab.mark}-on': byfahrer.enable='true': {beside}")
    time.sleep(3)

    assert len(daemon.saying(beside)) == 2
