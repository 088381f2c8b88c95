"""The same load on the plain ports and on the sidecars' ports of the same replicas, while these are replaced."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

from docker.types import ContainerSpec, EndpointSpec, ServiceMode, TaskTemplate, UpdateConfig

from lab.compose import project
from lab.engine import fetch
from lab.nested import connect_in
from lab.replicas import TARGET, Running, replica_load
from lab.waiting import wait_until

IMAGE = os.environ.get("SSLTERM_IMAGE", "sslterm")
"""The sidecar's: another than the one that was made from these sources only where somebody tries one out."""
PLAIN, TLS = 8080, 8081
RUNS = ["python3", "-c", TARGET]
_LOOK = 0.1
_SETTLED = 1.0

Counts = dict[str, Any]


@dataclass
class Outcome:
    """What became of all requests, through the plain ports and through the sidecars'."""

    plain: Counts
    ours: Counts
    seconds: float

    def lost(self, *, slow: bool = True) -> tuple[int, int]:
        """How many, with or without the requests that take a second."""
        plain, ours = (
            sum(many for what, many in counts["lost"].items() if slow or not what.startswith("slow"))
            for counts in (self.plain, self.ours)
        )
        return plain, ours

    def __str__(self) -> str:
        rows = []
        for name, counts in (("plain", self.plain), ("sslterm", self.ours)):
            told = (
                f"{what} {json.dumps(dict(sorted(counts[what].items())))}" for what in ("answered", "retried", "lost")
            )
            rows.append(f"{name:8}{', '.join(told)}, connect {counts['connect'] * 1000:.1f} ms")
        return "\n".join(rows)


@dataclass
class Pair:
    """Both loads, on the replicas that `look` finds, for as long as they run."""

    look: Callable[[], list[str]]
    plain: Running
    ours: Running
    found: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _began: float = field(default_factory=time.monotonic)

    def follow(self) -> None:
        while True:
            found = sorted(self.look())
            if found != self.found:
                self.found = found
                self.plain.replicas([(each, PLAIN) for each in found])
                self.ours.replicas([(each, TLS) for each in found])
            if self._over.wait(_LOOK):
                return

    def end(self) -> Outcome:
        time.sleep(_SETTLED)  # what the last change did to clients shows within that time
        self._over.set()
        return Outcome(self.plain.result(), self.ours.result(), time.monotonic() - self._began)

    def abandon(self) -> None:
        self._over.set()


@contextmanager
def both(look: Callable[[], list[str]], client: Path | None = None) -> Iterator[Pair]:
    """`look` returns the addresses of the replicas. `client`: the network namespace of who asks, if not this one."""
    with replica_load(tls=False, client=client) as plain, replica_load(tls=True, client=client) as ours:
        pair = Pair(look, plain, ours)
        follower = threading.Thread(target=pair.follow)
        follower.start()
        try:
            time.sleep(_SETTLED)
            yield pair
        finally:
            pair.abandon()
            follower.join()


def addresses(api: Any, *labels: str) -> list[str]:
    """Of running containers with these labels that are no sidecars."""
    listed = api.containers(filters={"label": list(labels), "status": ["running"]})
    networks = (
        each["NetworkSettings"]["Networks"].values() for each in listed if "byfahrer.target" not in each["Labels"]
    )
    return [ip for each in networks for network in each if (ip := network["IPAddress"])][:8]


def all_serve(look: Callable[[], list[str]], count: int, *, client: Path | None = None) -> list[str]:
    """Wait until so many replicas answer through their sidecars; their addresses."""
    connect = partial(_connect_in, client) if client else None

    def found() -> list[str]:
        there = look()
        answers = [fetch(each, "/new", TLS, connect) for each in there]
        serving = [each for each, got in zip(there, answers, strict=True) if got is not None and got[0] == 200]
        return serving if len(serving) == count == len(there) else []

    wait_until(found, 60)
    return look()


def _connect_in(namespace: Path, host: str, port: int) -> socket:
    return connect_in(namespace, (host, port))


def stop_and_start(lab: Any, kind: str, rounds: int) -> Outcome:
    """`docker stop` of one of two replicas, and its start, in turn."""
    asks = {"byfahrer.proxy-image": IMAGE}
    # Of its own, so that nobody else gets an address that one of them has just left.
    host = {"network_mode": lab.network()}
    made = [lab.run(name, "httpcheck", labels=asks, host=host, entrypoint=[*RUNS, kind]) for name in ("one", "two")]

    def look() -> list[str]:
        return addresses(lab.api, f"byfahrer-test={lab.mark}")

    all_serve(look, 2)
    with both(look) as pair:
        for number in range(rounds):
            lab.api.stop(made[number % 2], timeout=10)
            time.sleep(_SETTLED)
            lab.api.start(made[number % 2])
            all_serve(look, 2)
        return pair.end()


def recreate(lab: Any, folder: Any, kind: str, rounds: int) -> Outcome:
    """`docker-compose up -d --force-recreate` of one of two replicas, again and again."""
    asks = {"byfahrer.proxy-image": IMAGE}
    service = {"image": "httpcheck", "entrypoint": [*RUNS, kind], "labels": asks, "stop_grace_period": "10s"}
    lab.run("other", "httpcheck", labels=asks, entrypoint=[*RUNS, kind])

    def look() -> list[str]:
        return addresses(lab.api, f"byfahrer-test={lab.mark}")

    with project(lab, folder, {"web": service}) as compose:
        assert compose("up", "-d")[0] == 0
        all_serve(look, 2)
        with both(look) as pair:
            for _ in range(rounds):
                code, said = compose("up", "-d", "--force-recreate")
                assert code == 0, said
                all_serve(look, 2)
            return pair.end()


def roll(lab: Any, manager: Any, kind: str, order: str) -> Outcome:
    """A rolling update in a Swarm of one node; `order` is start-first or stop-first."""
    marked = {"byfahrer-test": lab.mark}
    return roll_over(
        manager, f"{lab.mark}-web", kind, order, labels=marked, own={**marked, "byfahrer.proxy-image": IMAGE}
    )  # fmt: skip


def roll_over(
    manager: Any,
    name: str,
    kind: str,
    order: str,
    *,
    labels: dict[str, str],
    own: dict[str, str] | None = None,
    nodes: Sequence[Any] = (),
    network: str | None = None,
    client: Path | None = None,
) -> Outcome:
    """
    A Swarm's rolling update, one of two tasks after the other.

    `labels` are the service's, `own` those of its containers. `nodes`: the engines that tasks may be on. `network`: the
    one that they share. `client`: the network namespace of who asks, if not this one.
    """
    engines = nodes or (manager,)
    spec = ContainerSpec("httpcheck", command=[*RUNS, kind], labels=own, init=False, stop_grace_period=10 * 10**9)
    update = UpdateConfig(parallelism=1, delay=10 * 10**9, order=order)
    made = manager.create_service(
        TaskTemplate(spec, force_update=0, networks=[network] if network else None), name=name, labels=labels,
        mode=ServiceMode("replicated", 2), update_config=update, endpoint_spec=EndpointSpec(mode="dnsrr"),
    )["ID"]  # fmt: skip
    label = f"com.docker.swarm.service.id={made}"

    def look() -> list[str]:
        return [each for engine in engines for each in addresses(engine, label)]

    def tasks(*, everything: bool = False) -> set[str]:
        found = (each for engine in engines for each in engine.containers(all=everything, filters={"label": [label]}))
        return {each["Id"] for each in found}

    try:
        all_serve(look, 2, client=client)
        before = tasks()
        with both(look, client) as pair:
            now = manager.inspect_service(made)
            spec_now = now["Spec"]
            manager.update_service(
                made, now["Version"]["Index"], name=spec_now["Name"], labels=spec_now["Labels"],
                task_template=spec_now["TaskTemplate"] | {"ForceUpdate": 1}, mode=spec_now["Mode"],
                update_config=spec_now["UpdateConfig"], endpoint_spec=spec_now["EndpointSpec"],
            )  # fmt: skip
            wait_until(lambda: len(tasks() - before) == 2 and not tasks() & before, 90)
            all_serve(look, 2, client=client)
            return pair.end()
    finally:
        manager.remove_service(made)
        wait_until(lambda: not tasks(everything=True), 60)
