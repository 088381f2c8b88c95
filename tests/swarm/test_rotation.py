"""`byfahrer swarm rotate-ca`: a new root for all nodes, while everybody who knows the old one is still content."""

from __future__ import annotations

from lab.nodes import is_secured
from lab.waiting import wait_until
from swarm.conftest import SERVICES


def all_believed(shop, root):
    return all(
        is_secured(node.namespace_of(task), ("127.0.0.1", 8081), root, f"tasks.{service}")
        for service in SERVICES
        for node, task in shop.tasks(service)
    )


def test_a_new_root_reaches_every_node_and_no_sidecar_is_made_anew(shop, root):
    before = {each["Id"] for service in SERVICES for node, task in shop.tasks(service) for each in node.sidecars(task)}
    old = {task for _, task in shop.tasks("byfahrer_byfahrer")}
    said = shop.manager.byfahrer("swarm", "rotate-ca")
    made = said.partition("BYFAHRER_CA=")[2].split()[0]
    wait_until(lambda: len(now := {task for _, task in shop.tasks("byfahrer_byfahrer")}) == 3 and not now & old, 120)
    new = shop.manager.byfahrer("ca", "root")

    assert new != root
    assert {each["Spec"]["Name"] for each in shop.manager.api.secrets()} >= {"byfahrer-ca", made}
    assert f"BYFAHRER_CA={made} docker stack deploy -c deploy/stack.yaml byfahrer" in said.splitlines()
    wait_until(lambda: all_believed(shop, new), 90)
    assert all_believed(shop, root)
    after = {each["Id"] for service in SERVICES for node, task in shop.tasks(service) for each in node.sidecars(task)}
    assert after == before
    shop.manager.docker("secret", "rm", "byfahrer-ca")
