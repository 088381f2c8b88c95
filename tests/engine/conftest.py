"""Each test has containers of its own on the real engine, and leaves none."""

from __future__ import annotations

import pytest

from lab.engine import Lab
from lab.injector import injectors
from lab.trust import Home


@pytest.fixture(autouse=True)
def home(monkeypatch):
    """Folders of this test's own for the authority: of every byfahrer in it, the daemon or a command."""
    made = Home()
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    yield made
    made.remove()


@pytest.fixture
def lab(engine, home):
    """This test's part of the engine."""
    made = Lab(engine)
    yield made
    made.clean()


@pytest.fixture
def injector(lab):
    """Starts `byfahrer run` for this test's containers; stopped before they are removed."""
    with injectors(lab) as start:
        yield start
