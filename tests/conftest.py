"""Options of the test run, and the engine that some of it needs."""

from __future__ import annotations

import pytest

from lab.engine import NoEngineError, reach


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="faults last as long as they may: minutes instead of seconds")
    parser.addoption("--faults-report", metavar="FILE", help="write what became of the faults (make test-faults)")


@pytest.fixture(scope="session")
def engine():
    """A client of the engine; without one, every test that asks for it fails."""
    try:
        api = reach()
    except NoEngineError as error:
        pytest.fail(str(error), pytrace=False)
    yield api
    api.close()
