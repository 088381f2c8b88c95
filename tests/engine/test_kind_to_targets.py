"""
While a target is stopped, recreated or rolled over, its clients lose no more with a sidecar than they lose without.

The plain service is measured beside it, in the same containers at the same time (`lab.kindness`).
"""

from __future__ import annotations

import pytest

from lab.engine import swarm
from lab.kindness import IMAGE, recreate, roll, stop_and_start

pytestmark = pytest.mark.timeout(300)


def is_kind(outcome, capsys):
    with capsys.disabled():
        print(f"\n{outcome}")
    for counts in (outcome.plain, outcome.ours):
        assert all(counts["answered"].get(kind, 0) > 10 for kind in ("new", "kept")), counts
    plain, ours = outcome.lost
    assert ours <= plain


@pytest.mark.parametrize("kind", ["finishes", "lame", "dies"])
def test_docker_stop(lab, injector, capsys, kind):
    injector("--allow-image", IMAGE).is_ready()
    is_kind(stop_and_start(lab, kind, rounds=4), capsys)


def test_compose_force_recreate(lab, injector, capsys, tmp_path):
    injector("--allow-image", IMAGE).is_ready()
    is_kind(recreate(lab, tmp_path, "finishes", rounds=2), capsys)


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_rolling_update(lab, injector, engine, capsys, order):
    with swarm(engine) as manager:
        injector("--allow-image", IMAGE).is_ready()
        is_kind(roll(lab, manager, "finishes", order), capsys)
