"""A list of containers says whom to look at, and wastes no look on others."""

from dataclasses import replace

import pytest

from byfahrer import settings
from byfahrer.model import Service, Status, Summary
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


TARGET = "a" * 64
ASKS = {"byfahrer_proxy__image": "sslterm"}


def pair(**sidecar):
    """A target and its sidecar."""
    target = replace(listed(TARGET, **ASKS), endpoints=("e1",))
    return [target, replace(listed("s", byfahrer_target=TARGET), image="sslterm", **sidecar)]


def test_the_first_list_is_all_new_and_the_same_again_is_nothing():
    marks = resync.Marks(settings.policy())

    assert marks.changed(pair()) == [TARGET]
    assert marks.changed(list(reversed(pair()))) == []
    assert list(marks) == [TARGET]


@pytest.mark.parametrize(
    "other",
    [
        [replace(pair()[0], endpoints=("e2",)), pair()[1]],
        [replace(pair()[0], name="renamed"), pair()[1]],
        [replace(pair()[0], status=Status.PAUSED), pair()[1]],
        [replace(pair()[0], status=Status.EXITED), pair()[1]],
        pair()[1:],
        pair()[:1],
        pair(status=Status.EXITED),
        pair(name="renamed"),
        pair(unhealthy=True),
        pair(id="t"),
        [pair()[0], replace(pair()[1], image="sha256:1")],
        [*pair(), listed("another", byfahrer_target=TARGET)],
    ],
)
def test_whatever_a_look_could_find_changed_is_a_change(other):
    marks = resync.Marks(settings.policy())
    marks.changed(pair())

    assert marks.changed(other) == [TARGET]
    assert marks.changed(other) == []


@pytest.mark.parametrize(
    "other",
    [
        [replace(pair()[0], unhealthy=True), pair()[1]],
        [replace(pair()[0], image="sha256:1"), pair()[1]],
        [*pair(), listed("stranger", com_example="x")],
    ],
)
def test_what_no_look_minds_is_none(other):
    marks = resync.Marks(settings.policy())
    marks.changed(pair())

    assert marks.changed(other) == []


def test_whose_sidecar_shows_only_the_id_of_its_image_is_known_until_it_shows_a_name():
    marks = resync.Marks(settings.policy())
    unnamed = [pair()[0], replace(pair()[1], image=f"sha256:{'1' * 64}")]
    for _ in range(2):
        marks.changed([*unnamed, replace(listed("app"), image="sha256:2")])
        assert marks.unnamed == [TARGET]

    marks.changed(pair())
    assert marks.unnamed == []


def test_a_policy_that_does_not_cover_a_target_leaves_it_out_with_its_unnamed_image():
    marks = resync.Marks(settings.policy(only_label=("team=a",)))
    marks.changed([replace(each, image="sha256:1") for each in pair()])

    assert marks.unnamed == []


def test_who_is_gone_is_named_once_and_forgotten():
    marks = resync.Marks(settings.policy())
    marks.changed(pair())

    assert marks.changed([]) == [TARGET]
    assert marks.changed([]) == []
    assert list(marks) == []


def test_after_forgetting_all_is_new_and_who_went_meanwhile_gone():
    marks = resync.Marks(settings.policy())
    second = "b" * 64
    marks.changed([*pair(), listed(second, **ASKS)])
    marks.forget()

    assert marks.changed(pair()) == [TARGET, second]
    assert marks.changed(pair()) == []


def test_the_labels_and_addresses_of_its_service_are_part_of_a_task():
    marks = resync.Marks(settings.policy())
    task = [listed(TARGET, com_docker_swarm_service_id="svc")]
    assert resync.tasks(task)
    assert not resync.tasks(pair())
    marks.changed(task, {"svc": Service(labels={"a": "1", "b": "2"})})

    same = {"svc": Service(labels={"b": "2", "a": "1"}), "other": Service(labels={"c": "3"})}
    assert marks.changed(task, same) == []
    assert marks.changed(task, {"svc": Service(labels={"a": "1"})}) == [TARGET]
    assert marks.changed(task, {"svc": Service(labels={"a": "1"}, addresses=("10.0.1.2",))}) == [TARGET]
    assert marks.changed(task, {"svc": Service()}) == [TARGET]
    assert marks.changed(task, {}) == [TARGET]
