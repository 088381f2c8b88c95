"""A sidecar can do nothing but its work, and a label cannot change that."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from byfahrer import settings
from lab.engine import fetch
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
    lab.becomes_served(www)

    assert lab.sidecars(www)[0]["Id"] != before


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
