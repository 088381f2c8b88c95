"""A sample of what the model goes through in memory (tests/unit/injector/test_promise.py), on a real engine."""

from __future__ import annotations

import pytest

from lab.engine_proxy import EngineProxy
from lab.sample import Sample
from lab.sequences import sample


@pytest.fixture
def world(lab, tmp_path):
    proxy = EngineProxy(tmp_path)
    made = Sample(lab, proxy)
    yield made
    made.end()
    proxy.close()
    for each in made.gone:
        print(*each.lines, sep="\n")  # shown where a test fails


@pytest.mark.parametrize("seed", range(4))
def test_after_anything_the_promise_comes_true_and_stays(world, seed):
    world.start_injector()
    for step in sample(seed):
        world.perform(step)
    world.make_whole()
    print(f"kept after {world.settle():.1f} s")
    for each in [*world.daemons, *world.gone]:
        assert each.saying("a bug of byfahrer") == []
