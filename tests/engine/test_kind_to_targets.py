"""
While a target is stopped, recreated or rolled over, its clients lose no more with a sidecar than they lose without.

The plain service is measured beside it, in the same containers at the same time (`lab.kindness`).
"""

from __future__ import annotations

from math import ceil

import pytest

from lab.engine import swarm
from lab.kindness import IMAGE, recreate, roll, stop_and_start
from lab.replicas import KEPT, NEW, OFTEN

pytestmark = pytest.mark.timeout(300)


ROUNDS = 4


def is_told(outcome, capsys):
    with capsys.disabled():
        print(f"\n{outcome}")
    for counts in (outcome.plain, outcome.ours):
        assert all(counts["answered"].get(kind, 0) > 10 for kind in ("new", "kept")), counts


def is_kind(outcome, capsys):
    is_told(outcome, capsys)
    plain, ours = outcome.lost()
    assert ours <= plain


def test_docker_stop_of_a_service_that_goes_on_for_a_moment(lab, injector, capsys):
    injector("--allow-image", IMAGE).is_ready()
    is_kind(stop_and_start(lab, "lame", ROUNDS), capsys)


@pytest.mark.parametrize(("kind", "abrupt"), [("finishes", False), ("dies", True)])
def test_docker_stop_of_a_service_that_listens_no_more_at_once(lab, injector, capsys, kind, abrupt):
    """
    Who is shaking hands in that moment may find nobody, and a request on a connection that was kept may cross its end.

    The plain service has both too, but its moment is shorter, by a handshake.

    One that dies loses what it was working on, whoever stands before it, and each client that sends just then.
    """
    injector("--allow-image", IMAGE).is_ready()
    outcome = stop_and_start(lab, kind, ROUNDS)
    is_told(outcome, capsys)
    plain, ours = outcome.lost(slow=not abrupt)
    in_that_moment = ceil((NEW + KEPT / OFTEN) * outcome.ours["connect"]) + (KEPT if abrupt else 0)
    assert ours <= plain + ROUNDS * in_that_moment


def test_compose_force_recreate(lab, injector, capsys, tmp_path):
    injector("--allow-image", IMAGE).is_ready()
    is_kind(recreate(lab, tmp_path, "lame", rounds=2), capsys)


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_rolling_update(lab, injector, engine, capsys, order):
    with swarm(engine) as manager:
        injector("--allow-image", IMAGE).is_ready()
        is_kind(roll(lab, manager, "lame", order), capsys)
