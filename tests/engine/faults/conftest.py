"""Faults are counted and timed; those of the engine itself happen to one in a container."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab import faults
from lab.engine_proxy import EngineProxy
from lab.injector import injectors
from lab.meddler import Meddler
from lab.nested import NestedEngine, NestedLab, saved_images

_FOUND = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[_FOUND] = []


def pytest_collection_modifyitems(items):
    for each in items:
        if each.path.is_relative_to(Path(__file__).parent) and not each.get_closest_marker("timeout"):
            each.add_marker(pytest.mark.timeout(300))


@pytest.fixture
def fault(request):
    """Names a fault by its number in the matrix; what was recorded of it is shown if the test succeeds."""
    made = []

    def name(number, what, holds):
        assert number in faults.TITLES
        made.append(faults.Fault(number, what, holds, request.node.nodeid))
        return made[-1]

    yield name
    if request.node.stash.get(_PASSED, False):
        request.config.stash[_FOUND] += made


_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    made = yield
    if made.when == "call":
        item.stash[_PASSED] = made.passed
    return made


def pytest_terminal_summary(terminalreporter, config):
    found = config.stash[_FOUND]
    if found:
        terminalreporter.section("faults, and seconds until they were made good")
        for line in faults.table(found):
            terminalreporter.write_line(line)


def pytest_sessionfinish(session, exitstatus):
    path = session.config.getoption("--faults-report")
    if path and exitstatus == 0:
        engine = session.config.stash[_ENGINE]
        Path(path).write_text(faults.report(session.config.stash[_FOUND], _head(engine), session.config.rootpath))


_ENGINE = pytest.StashKey[str]()


def _head(engine):
    return f"""\
# What happens when something breaks

Written by `make test-faults`, which does all this to a real engine. Seconds are from the moment at which the fault is
done, or at which the engine can be reached again, until every running container that asks for a sidecar has exactly
one, in its present network namespace, that answers, and there is no other. They are what one machine took ({engine}),
with all that it had to do besides; nothing is asserted of them."""


@pytest.fixture(scope="session", autouse=True)
def _described(request, engine):
    found = engine.info()
    request.config.stash[_ENGINE] = (
        f"Docker Engine {found['ServerVersion']}, {found['NCPU']} cores, {time.strftime('%Y-%m-%d')}"
    )


@pytest.fixture(scope="session")
def full(request):
    """Whether faults may last for minutes."""
    return request.config.getoption("--full")


@pytest.fixture
def proxy(tmp_path):
    """For connections that break or fall silent."""
    made = EngineProxy(tmp_path)
    yield made
    made.close()


@pytest.fixture
def meddler(tmp_path):
    """For calls that fail."""
    made = Meddler(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def nested_engine(engine, tmp_path_factory):
    """An engine that may be broken."""
    made = NestedEngine(engine, saved_images(tmp_path_factory.mktemp("images")))
    yield made
    made.remove()


@pytest.fixture
def nested(nested_engine, home):
    """This test's part of it."""
    made = NestedLab(nested_engine)
    yield made
    made.clean()


@pytest.fixture
def nested_injector(nested):
    """Starts `byfahrer run` for its containers."""
    with injectors(nested) as start:
        yield start


@pytest.fixture
def nested_meddler(tmp_path, nested):
    """For calls to it that fail."""
    made = Meddler(tmp_path, nested.engine.url)
    yield made
    made.close()
