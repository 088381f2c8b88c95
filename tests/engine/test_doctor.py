"""`byfahrer doctor` finds what is wrong on a real engine, says what to do, and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lab.injector import byfahrer
from lab.socket_proxy import socket_proxy


def doctor(lab, *options, env=None):
    """The exit code, and what is no `ok`, by check."""
    done = byfahrer("doctor", "--json", "--only-label", lab.scope, *options, env=env)
    assert done.err == ""
    found = {}
    for each in json.loads(done.out):
        assert each.keys() == {"check", "level", "text"}
        if each["level"] != "ok":
            found.setdefault(each["check"], []).append((each["level"], each["text"]))
    return done.code, found


def test_all_is_well_beside_a_daemon_that_serves(lab, injector):
    injector().is_ready()
    lab.becomes_served(lab.run(environment={"HTTPCHECK_ADDR": "127.0.0.1:8080"}))
    done = byfahrer("doctor", "--only-label", lab.scope)
    lines = [line.split(maxsplit=2) for line in done.out.splitlines()]

    assert done.code == 0, done.out
    assert {level for level, _, _ in lines} == {"ok"}, done.out
    (served,) = [text for _, check, text in lines if check == "authority"]
    assert "authority.sock is served by process " in served
    assert [text.split()[0] for _, check, text in lines if check == "daemon"] == ["byfahrer"]


def test_what_is_wrong_with_targets_is_told_and_nothing_is_changed(lab):
    lab.run("bad", labels={"byfahrer.mode": "sctp"})
    lab.run(
        "busy", labels={"byfahrer.frontend": ":443"}, host={"sysctls": {"net.ipv4.ip_unprivileged_port_start": 1024}}
    )
    lab.run("none", labels={"byfahrer.proxy-image": "sslterm:none"})
    lab.run("odd", asks=False, labels={"byfahrer.frontend": ":443"})
    before = {each["Id"] for each in lab.api.containers(all=True, filters={"label": [lab.scope]})}
    code, found = doctor(lab, "--pull", "never")

    assert code == 1
    assert ("problem", f"'{lab.mark}-bad' gets no sidecar: byfahrer.mode='sctp': expected http or tcp") in found[
        "targets"
    ]
    assert [(level, "ip_unprivileged_port_start=1024" in text) for level, text in found["ports"]] == [("problem", True)]
    assert [(level, "'sslterm:none' is not on this engine" in text) for level, text in found["images"]] == [
        ("problem", True)
    ]
    odd = f"'{lab.mark}-odd' gets no sidecar: byfahrer.frontend=':443': expected byfahrer.proxy-image beside it"
    assert [level for level, text in found["targets"] if text.startswith(odd)] == ["problem"]
    assert "labels" not in found
    assert {each["Id"] for each in lab.api.containers(all=True, filters={"label": [lab.scope]})} == before


def test_ports_that_lead_past_tls_or_nowhere(lab):
    lab.run(
        "past", ports=[8080], host={"port_bindings": {8080: ("127.0.0.1", None)}},
    )  # fmt: skip
    _, found = doctor(lab)
    nowhere, past = (text for _, text in found["ports"])

    assert "publishes 8080 at 127.0.0.1:" in nowhere
    assert "but not its sidecar's :8081" in nowhere
    assert "whoever calls it there goes round TLS" in past


def test_leftovers_and_a_sidecar_that_cannot_serve(lab, injector):
    daemon = injector().is_ready()
    gone, down = lab.run("gone"), lab.run("down")
    lab.becomes_served(gone)
    lab.becomes_served(down)
    daemon.stop()
    lab.api.kill(gone)
    lab.api.kill(lab.sidecars(down)[0]["Id"])
    code, found = doctor(lab)

    assert code == 1
    assert [text.partition(" has")[0] for _, text in found["leftovers"]] == [f"'{lab.mark}-gone-proxy'"]
    ((level, text),) = found["targets"]
    assert level == "problem"
    assert f"'{lab.mark}-down-proxy' of '{lab.mark}-down' does not serve: exited (137)" in text
    assert "its last words: " in text
    assert [level for level, _ in found["authority"]] == ["warning"]


def test_an_engine_where_only_looking_is_allowed(lab):
    with socket_proxy("socket-proxy-observe.cfg") as proxy:
        _, found = doctor(lab, env=proxy.env)

    assert found["rights"][0][1].startswith("may look only (403): enough for run --observe")
    assert len(proxy.refused()) == 1


def test_no_engine_and_no_permission_are_told_with_who_can_help(lab, tmp_path):
    nobody = byfahrer("doctor", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})

    assert nobody.code == 1
    assert "problem  engine     no engine at unix://" in nobody.out
    assert "start Docker, or say where it is with --docker-host" in nobody.out


def test_who_may_not_use_the_socket_is_told_who_may(home):
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    done = subprocess.run(
        (*nobody, sys.executable, "-m", "byfahrer", "doctor"),
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"HOME": "/nonexistent"},
    )  # fmt: skip
    group = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")).group()

    assert done.returncode == 1, done.stderr
    assert "no permission to use the engine at unix:///" in done.stdout
    assert f"; we are user 65534, and it is for user 0 and the group {group}" in done.stdout
