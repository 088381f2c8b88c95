"""A Swarm service's tasks are targets: by their containers' labels, and by the service's own on a manager."""

from __future__ import annotations

import contextlib

import pytest
from docker.errors import NotFound
from docker.types import ContainerSpec, EndpointSpec, ServiceMode, TaskTemplate

from lab.engine import swarm
from lab.waiting import wait_until

ASKS = {"byfahrer.proxy-image": "sslterm"}


@pytest.fixture(scope="module")
def manager(engine):
    with swarm(engine) as api:
        yield api


@pytest.fixture
def service(lab, manager):
    """Creates services of this test; removed at its end, with their tasks."""
    made = []

    def create(name="web", labels=None, container_labels=None, replicas=1):
        mark = {"byfahrer-test": lab.mark}
        # Where the service itself asks, only the service carries the mark, too.
        own = {} if labels else mark
        spec = ContainerSpec("httpcheck", labels={**own, **(container_labels or {})}, init=False)
        template = TaskTemplate(spec, force_update=0)
        made.append(
            manager.create_service(
                template, name=f"{lab.mark}-{name}", labels={**mark, **(labels or {})},
                endpoint_spec=EndpointSpec(mode="dnsrr"), mode=ServiceMode("replicated", replicas),
            )["ID"]
        )  # fmt: skip
        return made[-1]

    yield create
    for each in made:
        with contextlib.suppress(NotFound):  # where a test removed it
            manager.remove_service(each)
    wait_until(lambda: not [task for each in made for task in tasks(manager, each)], 30)


def tasks(api, service_id, everything=True):
    found = api.containers(all=everything, filters={"label": [f"com.docker.swarm.service.id={service_id}"]})
    return [each["Id"] for each in found]


def running_task(api, service_id, but=()):
    return wait_until(lambda: [i for i in tasks(api, service_id, everything=False) if i not in but], 40)[0]


def whole(lab, task):
    """A task on the default network has an address of its own only there."""
    found = lab.sidecars(task)
    running = len(found) == 1 and found[0]["State"]["Status"] == "running"
    return running and lab.namespace(found[0]["Id"]) == lab.namespace(task)


def becomes_served(lab, task):
    wait_until(lambda: whole(lab, task), 30)


def all_whole(lab, api, service_id, replicas):
    """Whether so many tasks run, each with its one sidecar, and there is no other."""
    running = tasks(api, service_id, everything=False)
    here = len(running) == replicas and all(whole(lab, each) for each in running)
    return here and len(lab.sidecars()) == replicas


def changed(api, service_id, **fields):
    """Update a service: `labels` of its own or of its containers, `replicas`, or `force` new tasks."""
    now = api.inspect_service(service_id)
    spec = now["Spec"]
    template = spec["TaskTemplate"] | ({"ForceUpdate": fields["force"]} if "force" in fields else {})
    if "container_labels" in fields:
        template["ContainerSpec"]["Labels"] = fields["container_labels"]
    mode = ServiceMode("replicated", fields["replicas"]) if "replicas" in fields else spec["Mode"]
    api.update_service(
        service_id, now["Version"]["Index"], name=spec["Name"], task_template=template, mode=mode,
        labels=fields.get("labels", spec["Labels"]), endpoint_spec=spec.get("EndpointSpec"),
    )  # fmt: skip


@pytest.mark.parametrize("where", ["labels", "container_labels"])
def test_labels_of_the_service_and_of_its_containers_both_ask(lab, injector, manager, service, where):
    daemon = injector().is_ready()
    task = running_task(manager, service(**{where: ASKS}))
    becomes_served(lab, task)

    assert "swarm role manager" in daemon.saying("Connected to")[0]


def test_a_task_that_runs_already_is_found(lab, injector, manager, service):
    task = running_task(manager, service(labels=ASKS))
    injector().is_ready()
    becomes_served(lab, task)


def test_a_replaced_task_has_a_new_sidecar_and_the_old_one_is_reaped(lab, injector, manager, service, fault):
    broken = fault(
        30, "`docker service update --force`, then the new task is killed", "the newest task has its one sidecar"
    )
    injector().is_ready()
    web = service(labels=ASKS)
    old = running_task(manager, web)
    becomes_served(lab, old)
    changed(manager, web, force=1)
    new = running_task(manager, web, but=(old,))
    wait_until(lambda: tasks(manager, web, everything=False) == [new], 60)
    broken.happens()
    broken.holds_once(lambda: all_whole(lab, manager, web, 1))

    manager.kill(new)
    running_task(manager, web, but=(old, new))
    broken.happens()
    broken.holds_once(lambda: all_whole(lab, manager, web, 1))


def test_a_service_that_is_scaled_up_and_down_has_a_sidecar_for_each_task(lab, injector, manager, service, fault):
    broken = fault(
        30, "a service is scaled from 1 to 4, and to 2", "one sidecar for each task, none for those that ended"
    )
    injector().is_ready()
    web = service(labels=ASKS)
    becomes_served(lab, running_task(manager, web))
    for replicas in (4, 2):
        changed(manager, web, replicas=replicas)
        wait_until(lambda wanted=replicas: len(tasks(manager, web, everything=False)) == wanted, 60)
        broken.happens()
        broken.holds_once(lambda wanted=replicas: all_whole(lab, manager, web, wanted))


def test_a_label_of_its_containers_makes_new_tasks_with_sidecars(lab, injector, manager, service, fault):
    broken = fault(
        30, "`docker service update --container-label-add` of the label that asks", "new tasks with a sidecar"
    )
    injector().is_ready()
    web = service()
    old = running_task(manager, web)
    changed(manager, web, container_labels={"byfahrer-test": lab.mark, **ASKS})
    running_task(manager, web, but=(old,))
    broken.happens()
    broken.holds_once(lambda: all_whole(lab, manager, web, 1))


def test_a_label_that_comes_and_goes_on_the_service_takes_effect_on_running_tasks(
    lab, injector, manager, service, fault
):
    broken = fault(
        30,
        "`docker service update --label-add`, of other settings, and `--label-rm`",
        "the running task's sidecar follows",
    )
    injector().is_ready()
    web = service()
    task = running_task(manager, web)
    assert lab.sidecars(task) == []
    mark = {"byfahrer-test": lab.mark}
    changed(manager, web, labels={**mark, **ASKS})
    broken.happens()
    broken.holds_once(lambda: whole(lab, task))
    first = lab.sidecars(task)[0]["Id"]

    changed(manager, web, labels={**mark, **ASKS, "byfahrer.mode": "tcp"})
    broken.happens()
    broken.holds_once(lambda: whole(lab, task) and lab.sidecars(task)[0]["Id"] != first)

    changed(manager, web, labels=mark)
    broken.happens()
    broken.holds_once(lambda: not lab.sidecars(task))
    assert lab.status(task) == "running"


def test_a_removed_service_leaves_no_sidecar(lab, injector, manager, service, fault):
    broken = fault(30, "`docker service rm`", "no sidecar is left")
    injector().is_ready()
    web = service(labels=ASKS)
    becomes_served(lab, running_task(manager, web))
    manager.remove_service(web)
    broken.happens()
    broken.holds_once(lambda: not lab.sidecars())
