"""What a sidecar finds is known to its byfahrer and shown by `ps`; one that hangs is restarted."""

from __future__ import annotations

import json
import signal
import time

import pytest

from byfahrer.serving.client import get
from lab.injector import byfahrer
from lab.waiting import wait_until


def target(home, container_id):
    """What the daemon tells of a target."""
    told = get(home.path / "state" / "admin.sock", "/status") or {"targets": []}
    return next((each for each in told["targets"] if each["id"] == container_id), {})


def report(home, container_id):
    return target(home, container_id).get("report") or {}


def row(lab, container_id):
    """What `byfahrer ps` shows of a target, as JSON."""
    done = byfahrer("ps", "--json", "--only-label", lab.scope)
    assert done.code == 0, done.err
    return next(each for each in json.loads(done.out) if each["target_id"] == container_id)


def test_a_way_round_tls_shows_and_a_strict_sidecar_is_unhealthy_for_it(lab, injector, home):
    injector().is_ready()
    private = lab.run("private", environment={"HTTPCHECK_ADDR": "127.0.0.1:8080"})
    public = lab.run("public")
    strict = lab.run("strict", labels={"byfahrer.strict": "on"})
    for each in (private, public, strict):
        wait_until(lambda each=each: report(home, each).get("phase") == "serving", 30)
    wait_until(lambda: report(home, public)["bypass"] and report(home, strict)["bypass"], 30)
    fault = "clients can go round TLS: the backend also listens on 0.0.0.0:8080"

    assert (report(home, private)["bypass"], row(lab, private)["state"]) == ([], "running")
    assert (row(lab, public)["state"], row(lab, public)["bypass"]) == ("running", ["0.0.0.0:8080"])
    assert (row(lab, strict)["state"], row(lab, strict)["problems"]) == ("unhealthy", [fault])
    assert "running, bypass 0.0.0.0:8080  " in byfahrer("ps", "--only-label", lab.scope).out
    assert report(home, public)["ready"] is True
    assert (report(home, strict)["ready"], report(home, strict)["fault"]) == (False, fault)
    (sidecar,) = lab.sidecars(strict)
    assert lab.attempt(sidecar["Id"], "/usr/bin/sslterm", "check") == (1, f"sslterm check: {fault}\n")
    assert lab.served(strict)
    assert lab.sidecars(strict)[0]["State"]["StartedAt"] == sidecar["State"]["StartedAt"]


def test_one_whose_target_does_not_listen_waits(lab, injector, home):
    injector().is_ready()
    www = lab.run(environment={"HTTPCHECK_ADDR": "127.0.0.1:9999"})
    wait_until(lambda: report(home, www).get("phase") == "waiting", 30)

    assert row(lab, www)["state"] == "waiting"


def test_last_words_show_where_a_sidecar_cannot_have_its_port(lab, injector):
    injector().is_ready()
    www = lab.run(environment={"HTTPCHECK_ADDR": ":8081"}, labels={"byfahrer.listen-when": "always"})

    def told():
        found = row(lab, www)
        return "already in use" in " ".join(found["problems"]) and found

    found = wait_until(told, 30)
    assert "frontend-addr" in " ".join(found["problems"])


@pytest.mark.timeout(240)
def test_a_byfahrer_that_was_stopped_itself_blames_nobody(lab, injector, home):
    daemon = injector().is_ready()
    www = lab.run()
    wait_until(lambda: report(home, www).get("ready"), 30)
    before = lab.sidecars(www)[0]["State"]["StartedAt"]
    daemon.send(signal.SIGSTOP)
    time.sleep(60)  # what is tested is that nothing comes of this time
    daemon.send(signal.SIGCONT)
    heard = target(home, www)["report"]["requests"]
    for _ in range(3):
        assert lab.served(www)
    wait_until(lambda: target(home, www)["report"] and target(home, www)["report"]["requests"] > heard, 100)

    assert lab.sidecars(www)[0]["State"]["StartedAt"] == before
    assert not daemon.saying("Restart proxy container")
