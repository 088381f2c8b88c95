"""
Wherever Swarm puts a service's tasks, each has its sidecar, and none is left where a task was.

One manager, two workers. Every test ends as it began: twelve tasks, three nodes.
"""

from __future__ import annotations

from lab.kindness import roll_over
from lab.waiting import wait_until
from swarm.conftest import NETWORK, SERVICES, spread


def ids(shop, service, nodes=None):
    return {task for _, task in shop.tasks(service, nodes)}


def count(shop, service, nodes=None):
    return len(shop.tasks(service, nodes))


def test_a_rolling_update_and_its_rollback(shop, kept):
    for what, change in (
        ("a rolling update of 4 tasks", ("update", "--env-add", "CHANGED=yes")),
        ("its rollback", ("rollback",)),
    ):
        before = ids(shop, "shop_web")
        shop.manager.insist("service", change[0], "-q", "--detach", *change[1:], "shop_web")
        wait_until(lambda old=before: count(shop, "shop_web") == 4 and not ids(shop, "shop_web") & old, 90)
        kept(what)


def test_scaling_up_and_down(shop, kept):
    for replicas in (8, 2, 4):
        shop.manager.insist("service", "scale", "--detach", f"shop_api={replicas}")
        wait_until(lambda wanted=replicas: count(shop, "shop_api") == wanted, 60)
        kept(f"a service scaled to {replicas}")


def test_a_node_that_is_drained_and_comes_back(shop, kept):
    node = shop.all[2]
    shop.manager.insist("node", "update", "--availability", "drain", node.swarm_id)
    wait_until(lambda: not any(node.tasks(each) for each in SERVICES), 60)
    wait_until(lambda: sum(count(shop, each) for each in SERVICES) == 12, 60)
    kept("a node drained, its tasks moved to the others", shop.but(node))
    # byfahrer is drained, too, and ends last.
    wait_until(lambda: not node.tasks("byfahrer_byfahrer"), 60)
    assert node.api.containers(filters={"label": ["byfahrer.target"]}) == []

    shop.manager.insist("node", "update", "--availability", "active", node.swarm_id)
    spread(shop)
    kept("it takes tasks again")


def test_a_node_that_is_killed_and_comes_back(shop, kept):
    node = shop.all[2]
    with node.dead():
        kept("a node killed: on the two others, at once", shop.but(node))
        wait_until(lambda: sum(count(shop, each, shop.but(node)) for each in SERVICES) == 12, 120)
        kept("its tasks made anew on the two others", shop.but(node))
    wait_until(lambda: count(shop, "byfahrer_byfahrer", [node]) == 1, 90)
    kept("it is back")
    spread(shop)
    kept("it takes tasks again after its death")


def test_a_rolling_update_loses_no_more_requests_than_without_sidecars(shop, clients, capsys):
    """The plain ports of the same tasks are asked at the same time, from one node for tasks on all."""
    outcome = roll_over(
        shop.manager.api, "rolled", "lame", "start-first", labels={"byfahrer.proxy-image": "sslterm"},
        nodes=[each.api for each in shop.all], network=NETWORK, client=clients[shop.all[1].name],
    )  # fmt: skip
    with capsys.disabled():
        print(f"\n{outcome}")
    for counts in (outcome.plain, outcome.ours):
        assert all(counts["answered"].get(kind, 0) > 10 for kind in ("new", "kept")), counts
    plain, ours = outcome.lost()
    assert ours <= plain
