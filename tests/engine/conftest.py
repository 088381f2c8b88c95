"""Each test has containers of its own on the real engine, and leaves none."""

from __future__ import annotations

import tempfile

import pytest

from lab.engine import Lab, NoEngineError, reach
from lab.injector import Injector


@pytest.fixture(scope="session")
def engine():
    """A client of the engine; without one, every test here fails."""
    try:
        api = reach()
    except NoEngineError as error:
        pytest.fail(str(error), pytrace=False)
    yield api
    api.close()


@pytest.fixture(autouse=True)
def _folders(monkeypatch):
    """An authority of this test's own. The path of a socket is short: pytest's own folders are too deep for one."""
    with tempfile.TemporaryDirectory(prefix="byfahrer-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("BYFAHRER_STATE_DIR", f"{folder}/state")
        monkeypatch.setenv("BYFAHRER_RUN_DIR", f"{folder}/run")
        yield


@pytest.fixture
def lab(engine, _folders):
    """This test's part of the engine."""
    made = Lab(engine)
    yield made
    made.clean()


@pytest.fixture
def injector(lab):
    """Starts `byfahrer run` for this test's containers; stopped before they are removed."""
    running = []

    def start(*options, **more):
        running.append(Injector(lab.scope, *options, **more))
        return running[-1]

    yield start
    for each in running:
        if not each.ended:
            each.stop()
        print(*each.lines, sep="\n")  # shown where a test fails
