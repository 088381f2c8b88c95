"""A Swarm of three real engines with a byfahrer on each, and a stack of twelve tasks annotated on its services."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import readme
from lab.nodes import nodes
from lab.waiting import wait_until

SERVICES = ("shop_web", "shop_api", "shop_db")
NETWORK = "shop_net"


def pytest_collection_modifyitems(items):
    for each in items:
        if each.path.is_relative_to(Path(__file__).parent):
            each.add_marker(pytest.mark.timeout(400))  # Swarm takes its time to believe that a node is gone


@pytest.fixture(scope="session")
def swarm(engine, tmp_path_factory):
    """The nodes, with a byfahrer on each: as the README has it."""
    with nodes(engine, tmp_path_factory.mktemp("nodes")) as made:
        commands = readme.sections()["Every node of a Swarm"][0].splitlines()
        assert [each.split()[-1] for each in commands] == ["init", "byfahrer", "shop"], commands
        for each in commands:
            made.manager.shell(each)
        wait_until(lambda: len(made.tasks("byfahrer_byfahrer")) == 3, 60)
        yield made
        for node in made.all:  # shown where a test fails
            for task in node.tasks("byfahrer_byfahrer", everything=True):
                print(node.name, node.words(task["Id"]), sep="\n")


def clear_up(node, task):
    """Once a node is back: Swarm makes a task anew that ended meanwhile, and knows nothing of one started by hand."""
    wait_until(lambda: any(each["Id"] != task["Id"] for each in node.tasks("byfahrer_byfahrer")), 60)
    node.docker("rm", "--force", task["Id"])
    wait_until(lambda: len(node.tasks("byfahrer_byfahrer")) == 1, 60)


@pytest.fixture(scope="session")
def shop(swarm):
    """The example stack, all of it running."""
    wait_until(lambda: sum(len(swarm.tasks(each)) for each in SERVICES) == 12, 90)
    return swarm


def spread(shop):
    """Have tasks of each service on every node: Swarm moves them away from one that is lost, and not back by itself."""
    if not all(node.tasks(each) for node in shop.all for each in SERVICES):
        for each in SERVICES:
            shop.update("--force", each)
        wait_until(lambda: all(node.tasks(each) for node in shop.all for each in SERVICES), 120)
    wait_until(lambda: all(len(shop.tasks(each)) == 4 for each in SERVICES), 120)


@pytest.fixture(scope="session")
def root(shop):
    """The root that all nodes share, in PEM."""
    return shop.manager.byfahrer("ca", "root")


@pytest.fixture
def kept(shop, root):
    """Waits until the promise holds, on all nodes or some; it has to hold before a test, too."""

    def wait(what, nodes=None):
        shop.keep(SERVICES, root, what, nodes)

    shop.keep(SERVICES, root)
    return wait


@pytest.fixture(scope="module")
def clients(shop):
    """On each node, by its name, the network namespace of a container on the stack's network."""
    made = {}
    for node in shop.all:
        started = node.docker("run", "-d", "--network", NETWORK, "--name", "client", "httpcheck").strip()
        made[node.name] = node.namespace_of(started)
    yield made
    for node in shop.all:
        node.docker("rm", "-f", "client")


def pytest_terminal_summary(terminalreporter, config):
    measured = config.stash.get(MEASURED, [])
    if measured:
        terminalreporter.section("seconds until all tasks were served again")
        for line in measured:
            terminalreporter.write_line(line)


MEASURED = pytest.StashKey[list]()


@pytest.fixture(scope="session", autouse=True)
def _told(request, swarm):
    request.config.stash[MEASURED] = swarm.measured
