"""The real adapter and the tests' engine in memory are the same to those who use them."""

import inspect

import pytest

from byfahrer.engine.client import DockerEngine
from byfahrer.engine.interface import Engine
from lab.memory_engine import MemoryEngine

METHODS = [name for name in vars(Engine) if not name.startswith("_") and callable(getattr(Engine, name))]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", [DockerEngine, MemoryEngine])
def test_every_method_is_there_with_the_same_parameters(kind, name):
    expected, found = (inspect.signature(getattr(each, name)).parameters for each in (Engine, kind))

    assert list(expected) == list(found)
    assert [p.default for p in expected.values()] == [p.default for p in found.values()]
