"""`run --dry-run` and `run --observe` say what would be done, and do nothing: through a filter, they could not."""

from __future__ import annotations

import pytest

from lab.injector import byfahrer
from lab.socket_proxy import socket_proxy


@pytest.fixture
def proxy():
    with socket_proxy("socket-proxy-observe.cfg") as made:
        yield made


def rehearse(lab, *options, **more):
    done = byfahrer("run", "--dry-run", "--only-label", lab.scope, *options, **more)
    assert (done.code, done.err) == (0, "")
    return done.out.splitlines()


def test_a_dry_run_prints_what_would_be_done_and_does_none_of_it(lab, home, proxy):
    lab.run()
    lab.run("bad", labels={"byfahrer.mode": "sctp"})
    lab.run("none", labels={"byfahrer.proxy-image": "sslterm:none"})
    lines = rehearse(lab, "--pull", "never", env=proxy.env)

    create = "create '{0}-proxy' for '{0}' from {1} (:8081 -> 127.0.0.1:8080): it asks for it and has none"
    assert lines == [
        f"problem: '{lab.mark}-bad': byfahrer.mode='sctp': expected http or tcp",
        create.format(f"{lab.mark}-none", "sslterm:none"),
        "problem: image 'sslterm:none' is not on this engine: build or pull it (docker pull sslterm:none)",
        create.format(f"{lab.mark}-www", "sslterm"),
    ]
    assert lab.sidecars() == []
    assert proxy.refused() == []
    assert not (home.path / "state").exists()
    assert not (home.path / "run").exists()


def test_a_dry_run_beside_a_daemon_that_has_done_it_all_finds_nothing_to_do(lab, injector):
    daemon = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    assert rehearse(lab) == ["nothing to do"]
    daemon.stop()
    lab.api.restart(www, timeout=1)
    assert rehearse(lab) == [f"restart '{lab.mark}-www-proxy': its target has restarted"]
    lab.api.kill(www)
    assert rehearse(lab) == [f"remove '{lab.mark}-www-proxy': its target does not run"]


def test_who_observes_says_each_change_once_and_changes_nothing(lab, injector, home, proxy):
    watching = injector("--observe", "--resync", "1s", env=proxy.env).is_ready()
    www = lab.run()
    said = watching.says(f"Would create '{lab.mark}-www-proxy' for '{lab.mark}-www' from sslterm")
    lab.run("bad", labels={"byfahrer.mode": "sctp"})
    watching.says("byfahrer.mode='sctp': expected http or tcp")
    lab.api.kill(www)
    lab.api.start(www)
    other = lab.run("other")
    watching.says(f"Would create '{lab.mark}-other-proxy'")
    lab.remove(other)
    later = lab.run("later")
    watching.says(f"Would create '{lab.mark}-later-proxy'")

    assert "INFO" in said
    assert len(watching.saying(f"Would create '{lab.mark}-later-proxy'")) == 1
    assert lab.sidecars() == []
    assert lab.status(later) == "running"
    assert not home.socket.exists()
    assert watching.stop() == 0
    assert proxy.refused() == []


def test_who_observes_agrees_with_who_acts(lab, injector, proxy):
    watching = injector("--observe", "--resync", "1s", env=proxy.env).is_ready()
    acting = injector().is_ready()
    www = lab.run()
    lab.becomes_served(www)
    acting.stop()
    (sidecar,) = lab.sidecars(www)
    lab.api.stop(sidecar["Id"], timeout=1)
    watching.says(f"Would start '{lab.mark}-www-proxy': it is exited")

    # What it has to be is the same for both, the authority's folder included.
    assert watching.saying("Would remove") == []
    assert [each["Id"] for each in lab.sidecars(www)] == [sidecar["Id"]]
    assert proxy.refused() == []
