"""Every running target that asks has exactly one sidecar; nobody else has one. What may happen to both: faults/."""

from __future__ import annotations

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
