"""
While a target is stopped, recreated or rolled over, its clients lose no more with a sidecar than they lose without.

The plain service is measured beside it, in the same containers at the same time (`lab.kindness`).
"""

from __future__ import annotations

import pytest

from lab.engine import swarm
from lab.kindness import IMAGE, recreate, roll, stop_and_start

pytestmark = pytest.mark.timeout(300)


def is_kind(outcome, capsys, more=0):
    """
    `more`: replicas that went without a word before. A client that shakes hands, or sends, in that moment may lose one
    request; a handshake is longer than a connect, so the plain service, which has the same moment, mostly loses none.
    """
    with capsys.disabled():
        print(f"\n{outcome}")
    for counts in (outcome.plain, outcome.ours):
        assert all(counts["answered"].get(kind, 0) > 10 for kind in ("new", "kept")), counts
    plain, ours = outcome.lost
    assert ours <= plain + more


ROUNDS = 4


@pytest.mark.parametrize(("kind", "more"), [("lame", 0), ("finishes", ROUNDS), ("dies", ROUNDS)])
def test_docker_stop(lab, injector, capsys, kind, more):
    injector("--allow-image", IMAGE).is_ready()
    is_kind(stop_and_start(lab, kind, ROUNDS), capsys, more)


def test_compose_force_recreate(lab, injector, capsys, tmp_path):
    injector("--allow-image", IMAGE).is_ready()
    is_kind(recreate(lab, tmp_path, "lame", rounds=2), capsys)


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_rolling_update(lab, injector, engine, capsys, order):
    with swarm(engine) as manager:
        injector("--allow-image", IMAGE).is_ready()
        is_kind(roll(lab, manager, "lame", order), capsys)
