"""Tasks of services that are annotated nowhere else have sidecars on every node, and one trust."""

from __future__ import annotations

import pytest

from lab.nodes import fetch
from lab.waiting import wait_until
from swarm.conftest import NETWORK, SERVICES, clear_up, spread


@pytest.fixture(scope="module", autouse=True)
def _on_every_node(shop):
    spread(shop)


def is_served(shop, clients, root, node, task, service):
    """Whether a client on another node reaches a task by HTTPS, verified against the shared root."""
    other = next(each for each in shop.all if each is not node)
    try:
        answer = fetch(clients[other.name], node.address_of(task, NETWORK), root, f"tasks.{service}")
    except (OSError, KeyError):
        return False
    return b"pi(20)=" in answer


def test_all_twelve_tasks_answer_https_from_another_node(shop, clients, root):
    for service in ("shop_web", "shop_api"):
        for node, task in shop.tasks(service):
            wait_until(lambda n=node, t=task, s=service: is_served(shop, clients, root, n, t, s), 30)
    for node, task in shop.tasks("shop_db"):
        wait_until(lambda n=node, t=task: len(n.sidecars(t)) == 1, 30)

    assert len({node.name for service in SERVICES for node, _ in shop.tasks(service)}) == 3
    assert sum(len(shop.tasks(service)) for service in SERVICES) == 12


def test_labels_that_change_take_effect_everywhere_without_a_restart(shop, clients, root):
    before = {(node.name, task) for node, task in shop.tasks("shop_web")}
    shop.update("--label-add", "byfahrer.enable=false", "shop_web")
    wait_until(lambda: not any(node.sidecars(task) for node, task in shop.tasks("shop_web")), 30)
    shop.update("--label-rm", "byfahrer.enable", "shop_web")
    for node, task in shop.tasks("shop_web"):
        wait_until(lambda n=node, t=task: is_served(shop, clients, root, n, t, "shop_web"), 30)

    assert {(node.name, task) for node, task in shop.tasks("shop_web")} == before


def test_a_worker_without_managers_goes_on_with_what_it_knows(shop, clients, root):
    worker = shop.all[2]
    with worker.apart(shop.all[:2]):
        (task,) = worker.tasks("byfahrer_byfahrer")
        worker.docker("kill", task["Id"])
        targets = [task["Id"] for task in worker.tasks("shop_web")]
        assert targets
        sidecars = [worker.sidecars(each)[0]["Id"] for each in targets]
        for each in sidecars:
            worker.docker("rm", "-f", each)
        # The engine's agent starts no new task while it is cut off, so the one that was killed is started by hand.
        worker.docker("start", task["Id"])
        for each in targets:
            wait_until(lambda t=each: len(worker.sidecars(t)) == 1, 30)
    clear_up(worker, task)
