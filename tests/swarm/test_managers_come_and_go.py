"""Three managers, of which any may be lost, or a majority: what is known of services holds, and what is new spreads."""

from __future__ import annotations

from contextlib import suppress

import pytest
from docker.errors import APIError

from lab.waiting import wait_until
from swarm.conftest import SERVICES, clear_up


@pytest.fixture(scope="module", autouse=True)
def _three_managers(shop):
    """For these tests; afterwards the first is the only one again."""
    others = shop.all[1:]
    for each in others:
        shop.manager.insist("node", "promote", each.swarm_id)
    wait_until(lambda: all(each.api.info()["Swarm"]["ControlAvailable"] for each in others), 60)
    yield
    for each in others:
        demote(shop, each)


def demote(shop, node):
    """Swarm refuses until it has found out that the others are back, without whom it would have no majority."""
    shop.manager.insist("node", "demote", node.swarm_id)
    wait_until(lambda: not node.api.info()["Swarm"]["ControlAvailable"], 60)


def without_sidecars(shop, service, nodes):
    return not any(node.sidecars(task) for node, task in shop.tasks(service, nodes))


def switched(shop, by, service, nodes, *, on):
    """
    Turn a service's sidecars off, or on again, at one manager, and wait until that is so on these nodes.

    A node that was a manager finds out with its next list that it is none, and so may the one that it asks then.
    """
    change = ("--label-rm", "byfahrer.enable") if on else ("--label-add", "byfahrer.enable=false")
    by.insist("service", "update", "-q", "--detach", *change, service)
    assert any(shop.tasks(service, [node]) for node in nodes)
    wait_until(lambda: without_sidecars(shop, service, nodes) != on, 120)


def leader(nodes):
    """Its ID, as far as these know; None while there is none."""
    for node in nodes:
        with suppress(APIError):
            for each in node.api.nodes():
                if each.get("ManagerStatus", {}).get("Leader"):
                    return each["ID"]
    return None


def test_the_leader_is_lost(shop, kept):
    lost = next(each for each in shop.all if each.swarm_id == leader(shop.all))
    rest = shop.but(lost)
    was = lost.swarm_id
    with lost.dead():
        kept("the leader of three managers killed: on the two others, at once", rest)
        wait_until(lambda: leader(rest) not in (None, was), 90)
        for on in (False, True):
            switched(shop, rest[0], "shop_web", rest, on=on)
        kept("labels changed at one of the two others", rest)
    wait_until(lambda: len(shop.tasks("byfahrer_byfahrer", [lost])) == 1, 90)
    kept("the manager is back")


def test_a_manager_without_a_majority_goes_on_with_what_it_knew(shop, kept):
    alone = shop.all[2]
    rest = shop.but(alone)
    with alone.apart(rest):
        (task,) = alone.tasks("byfahrer_byfahrer")
        here = [task for service in SERVICES for _, task in shop.tasks(service, [alone])]
        assert here
        for each in here:
            for sidecar in alone.sidecars(each):
                alone.docker("kill", sidecar["Id"])
        kept("sidecars killed on a manager that is cut off from the two others", [alone])
        alone.docker("restart", "--time", "5", task["Id"])
        for each in here:
            for sidecar in alone.sidecars(each):
                alone.docker("rm", "--force", sidecar["Id"])
        kept("sidecars removed there, and its byfahrer started anew", [alone])

        switched(shop, rest[0], "shop_api", rest, on=False)
        assert not without_sidecars(shop, "shop_api", [alone])
    clear_up(alone, task)
    wait_until(lambda: without_sidecars(shop, "shop_api", shop.all), 60)
    switched(shop, rest[0], "shop_api", shop.all, on=True)
    kept("it has found the others again")


def test_a_manager_that_is_demoted_asks_the_others(shop, kept):
    node = shop.all[1]
    demote(shop, node)
    for on in (False, True):
        switched(shop, shop.manager, "shop_web", [node], on=on)
    kept("a manager demoted, then labels changed")
