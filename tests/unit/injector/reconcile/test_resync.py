"""A list of containers says whom to look at, and wastes no look on others."""

from byfahrer.model import Status, Summary
from byfahrer.reconcile import resync

GONE = "e" * 64


def listed(ident, status=Status.RUNNING, **labels):
    named = {key.replace("__", "-").replace("_", "."): value for key, value in labels.items()}
    return Summary(id=ident, name=ident, status=status, labels=named)


def test_running_containers_with_our_labels_or_of_a_service_are_looked_at_and_targets_of_sidecars():
    found = resync.targets(
        [
            listed("asks", byfahrer_proxy__image="sslterm"),
            listed("old", org_qnib_byfahrer_proxy__image="sslterm"),
            listed("task", com_docker_swarm_service_id="s"),
            listed("paused", Status.PAUSED, byfahrer_proxy__image="sslterm"),
            listed("plain", com_example_byfahrer="x"),
            listed("stopped", Status.EXITED, byfahrer_proxy__image="sslterm"),
            listed("sidecar", Status.EXITED, byfahrer_target=GONE),
            listed("second", byfahrer_target=GONE, byfahrer_spec="x", byfahrer_target__name="y"),
            listed("hand", byfahrer_target=GONE, byfahrer_proxy__image="sslterm"),
            listed("nonsense", byfahrer_target="secvictim"),
        ]
    )

    assert found == ["asks", "old", "task", "paused", GONE, "hand"]
