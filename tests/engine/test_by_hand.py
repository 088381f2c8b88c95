"""inject, eject and ps do what they say, with and without an injector that runs."""

from __future__ import annotations

import json

from lab.engine import fetch
from lab.injector import byfahrer
from lab.waiting import wait_until


def test_inject_gives_any_running_container_a_sidecar_and_eject_takes_it_away(lab):
    plain = lab.run("plain", asks=False)
    name = f"{lab.mark}-plain"
    done = byfahrer("inject", name, "--set", "frontend=:8443")

    assert (done.code, done.err.count("ERROR")) == (0, 0)
    assert done.out == f"{name}-proxy runs in the network of {name}: :8443 -> 127.0.0.1:8080\n"
    wait_until(lambda: fetch(lab.address(plain), port=8443))
    assert byfahrer("inject", name, "--set", "frontend=:8443").code == 0  # again: nothing to do

    done = byfahrer("eject", name)
    assert (done.code, done.out) == (0, f"{name}-proxy removed\n")
    assert lab.sidecars(plain) == []
    assert byfahrer("eject", name).err == f"byfahrer: '{name}' has no sidecar of ours\n"


def test_a_sidecar_by_hand_is_kept_right_while_its_target_runs_and_reaped_with_it(lab, injector):
    plain = lab.run("plain", asks=False)
    byfahrer("inject", f"{lab.mark}-plain", "--only-label", lab.scope)
    injector().is_ready()
    lab.becomes_served(plain)  # perhaps by another one, which has a certificate of the authority
    lab.api.restart(plain, timeout=1)
    lab.becomes_served(plain)
    lab.remove(lab.sidecars(plain)[0]["Id"])  # by hand, so it stays away
    byfahrer("inject", f"{lab.mark}-plain", "--only-label", lab.scope)
    lab.becomes_served(plain)
    lab.api.kill(plain)
    lab.is_left_alone(plain)


def test_inject_takes_a_labelled_targets_own_word(lab):
    www = lab.run(labels={"byfahrer.frontend": ":9443"})
    name = f"{lab.mark}-www"

    assert "leave out --image and --set" in byfahrer("inject", name, "--set", "mode=tcp").err
    assert byfahrer("inject", name).out == f"{name}-proxy runs in the network of {name}: :9443 -> 127.0.0.1:8080\n"
    assert "byfahrer.manual" not in lab.sidecars(www)[0]["Config"]["Labels"]


def test_inject_says_what_is_wrong_and_leaves_nothing(lab):
    busy = lab.run("busy", asks=False, environment={"HTTPCHECK_ADDR": "0.0.0.0:8081"})
    stopped = lab.run("stopped", asks=False, start=False)
    host = lab.run("host", "debian:trixie-slim", asks=False, command=["sleep", "1000"], host={"network_mode": "host"})
    for name, options, says in (
        ("busy", [], "exited with code"),
        ("busy", ["--set", "mode=x"], "byfahrer.mode='x': expected http or tcp"),
        ("busy", ["--image", "sslterm-none"], "image 'sslterm-none' is not on this engine"),
        ("stopped", [], "does not run (created): start it first"),
        ("host", [], "--network host: expected"),
    ):
        done = byfahrer("--log-level", "error", "inject", f"{lab.mark}-{name}", *options)
        assert done.code == 1
        assert says in done.err.splitlines()[-1]
        byfahrer("eject", f"{lab.mark}-{name}")

    assert [lab.sidecars(each) for each in (busy, stopped, host)] == [[], [], []]


def test_eject_of_a_labelled_target_says_that_it_comes_back_and_it_does(lab, injector):
    injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    before = lab.sidecars(www)[0]["Id"]
    done = byfahrer("eject", f"{lab.mark}-www-proxy")

    assert done.out == f"{lab.mark}-www-proxy removed\n"
    assert done.err == f"{lab.mark}-www asks for it by label: a byfahrer that runs puts it back\n"
    lab.becomes_served(www)
    assert lab.sidecars(www)[0]["Id"] != before


def test_ps_shows_who_has_a_sidecar_and_who_has_none_and_why(lab, injector):
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    lab.run("bad", labels={"byfahrer.mode": "sctp"})
    lab.run("plain", asks=False)
    daemon.stop()
    late = lab.run("late")
    done = byfahrer("ps", "--only-label", lab.scope)
    rows = {line.split()[0]: line for line in done.out.splitlines()[1:]}

    assert done.out.splitlines()[0].split("  ")[0] == "TARGET"
    assert sorted(rows) == [f"{lab.mark}-{name}" for name in ("bad", "late", "www")]
    assert f"{lab.mark}-www-proxy  running  :8081 -> 127.0.0.1:8080  " in rows[f"{lab.mark}-www"].replace("   ", "  ")
    assert "refused: byfahrer.mode='sctp': expected http or tcp" in rows[f"{lab.mark}-bad"]
    assert "missing" in rows[f"{lab.mark}-late"]

    found = {row["target_id"]: row for row in json.loads(byfahrer("ps", "--json", "--only-label", lab.scope).out)}
    assert found[late]["state"] == "missing"
    assert found[www]["state"] == "running"
    assert (found[www]["frontend"], found[www]["backend"]) == (":8081", "127.0.0.1:8080")
    lab.api.restart(www, timeout=1)
    assert "  stale  " in byfahrer("ps", "--only-label", lab.scope).out
    lab.api.kill(www)
    assert "  orphan  " in byfahrer("ps", "--only-label", lab.scope).out
