"""What the daemon tells of itself: the same facts as JSON and as metrics, and never more metrics for more targets."""

from __future__ import annotations

import json
import re

import pytest

from byfahrer.authority.report import Report
from byfahrer.reconcile.memory import State
from lab.overview import overview, target


def samples(made):
    return dict(line.rsplit(" ", 1) for line in made.metrics().splitlines() if not line.startswith("#"))


def test_the_engine_and_the_watch_are_told():
    told = json.loads(json.dumps(overview().status()))

    assert told["engine"] == {
        "connected": True, "where": "unix:///x", "name": "node", "version": "27", "api_version": "1.41", "role": "none",
    }  # fmt: skip
    assert (told["ready"], told["fault"], told["queue"]) == (True, "", 6)
    assert (told["last_event"], told["last_resync"]) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z")
    found = samples(overview())
    assert found["byfahrer_last_event_timestamp_seconds"] == "1.500"
    assert found["byfahrer_engine_up"] == found["byfahrer_ready"] == "1"
    assert found["byfahrer_queue_depth"] == "6"
    assert found["byfahrer_engine_losses_total"] == "5"


def test_the_flags_by_which_it_judges_are_told():
    made = overview()
    made.flags = {"allow_image": ("a", "b")}

    assert json.loads(json.dumps(made.status()))["flags"] == {"allow_image": ["a", "b"]}


def test_it_is_ready_when_it_is_connected_and_has_looked_at_everything():
    made = overview()
    assert made.fault == ""
    made.engine = None
    assert made.fault == "the first look at everything is not over"
    made.watch.connected = False
    assert made.fault == "the engine at unix:///x is not connected"
    assert samples(made)["byfahrer_ready"] == samples(made)["byfahrer_engine_up"] == "0"
    made.watch.last_event = 0.0
    assert made.status()["last_event"] is None


def test_a_target_is_told_with_the_word_of_the_sidecar_it_has():
    word = Report(source="acme", not_after="2026-12-01T00:00:00Z", failing="no", phase="serving", ready=False,
                  fault="why", bypass=("0.0.0.0:80",), connections=1, requests=2)  # fmt: skip
    made = overview(
        target(2, State.REFUSED, problems=("'n2': bad",), error="e", action="inject", acted_at=1.0), target(1),
        words={"s1": word},
    )  # fmt: skip
    first, second = made.status()["targets"]

    assert (first["name"], first["state"], first["problems"], first["acted_at"]) == ("n1", "serving", [], None)
    assert first["report"] == {
        "phase": "serving", "ready": False, "fault": "why", "bypass": ["0.0.0.0:80"], "connections": 1, "requests": 2,
        "certificate": {"source": "acme", "not_after": "2026-12-01T00:00:00Z", "failing": "no"},
    }  # fmt: skip
    assert second["report"] is None
    assert (second["problems"], second["error"], second["last_action"]) == (["'n2': bad"], "e", "inject")
    assert second["acted_at"] == "1970-01-01T00:00:01Z"
    found = samples(made)
    assert [found[f'byfahrer_targets{{state="{each}"}}'] for each in ("serving", "refused", "failing")] == list("110")
    assert found["byfahrer_targets_with_problems"] == "1"
    for name in ("reporting", "unready", "bypassed", "renewal_failing"):
        assert found[f"byfahrer_sidecars_{name}"] == "1"


def test_actions_are_counted_by_what_and_how_they_ended():
    made = overview(actions={("inject", "ok"): 3, ("inject", "failed"): 1})

    assert samples(made)['byfahrer_actions_total{action="inject",result="ok"}'] == "3"
    assert made.status()["actions"][0] == {"action": "inject", "result": "failed", "count": 1}


def test_names_make_no_metrics():
    """A container may be called anything, and there may be any number."""
    few, many = overview(), overview(*(target(number) for number in range(500)))

    assert samples(few).keys() == samples(many).keys()
    assert "n499" not in many.metrics()


@pytest.mark.parametrize("line", overview(actions={("a", "ok"): 1}).metrics().splitlines())
def test_every_line_has_the_form_of_prometheus(line):
    assert re.fullmatch(
        r"# (HELP byfahrer_[a-z_]+ .+\.|TYPE byfahrer_[a-z_]+ (gauge|counter))"
        r"|byfahrer_[a-z_]+(\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\})? [0-9.]+",
        line,
    )
