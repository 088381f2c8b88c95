"""
What is measured: each stage gives every proxy the same work in every round, and yields one or more figures.

A stage is a function of a proxy that runs (or of the laboratory, where it has to start one itself); its values are
collected by figure, proxy and round. Lower is better in every figure but the rates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.lab import Lab, Running
from bench.process import LOAD_CPU, PROXY_CPU, BenchError
from bench.proxies import Proxy

CONNECTIONS = 64


@dataclass(frozen=True)
class Plan:
    """How much of everything: the whole measurement, or the quick look."""

    rounds: Mapping[str, int]
    seconds: int
    bulk: int
    handshakes: int
    held: tuple[int, int]
    latency_seconds: float


STAGES = ("start", "small", "browser", "single", "bulk", "handshake", "latency", "held", "workers")

FULL = Plan(
    dict.fromkeys(STAGES, 5) | {"small": 9, "browser": 9, "held": 3},
    seconds=1, bulk=256 << 20, handshakes=800, held=(1000, 8000), latency_seconds=2.0,
)  # fmt: skip
QUICK = Plan(
    dict.fromkeys(STAGES, 1) | {"start": 2, "small": 2, "browser": 2},
    seconds=1, bulk=128 << 20, handshakes=300, held=(100, 1000), latency_seconds=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    key: str
    label: str
    unit: str
    digits: int = 1
    higher: bool = False
    """Whether more is better."""
    chart: bool = False


FIGURES = (
    Figure("small", "small request, 64 connections", "µs CPU", chart=True),
    Figure("small rate", "the same, how many", "1/s", 0, higher=True),
    Figure("browser", "browser's request, log on", "µs CPU", chart=True),
    Figure("browser rate", "the same, how many", "1/s", 0, higher=True),
    Figure("single", "small request, 1 connection", "µs CPU", chart=True),
    Figure("download", "download", "s CPU/GB", 2, chart=True),
    Figure("upload", "upload", "s CPU/GB", 2, chart=True),
    Figure("handshake", "full handshake", "µs CPU", 0, chart=True),
    Figure("resumed", "resumed handshake", "µs CPU", 0, chart=True),
    Figure("p50", "latency at a fixed rate, p50", "µs", 0),
    Figure("p99", "latency at a fixed rate, p99", "µs", 0, chart=True),
    Figure("p99.9", "latency at a fixed rate, p99.9", "µs", 0),
    Figure("private", "memory idle, private", "MB", chart=True),
    Figure("pss", "memory idle, proportional", "MB"),
    Figure("private some", "memory, {held[0]:,} idle connections, private", "MB"),
    Figure("pss some", "memory, {held[0]:,} idle connections, proportional", "MB"),
    Figure("private many", "memory, {held[1]:,} idle connections, private", "MB", chart=True),
    Figure("pss many", "memory, {held[1]:,} idle connections, proportional", "MB"),
    Figure("per connection", "memory per idle connection", "KB", chart=True),
    Figure("start", "from exec to listening", "ms", 0, chart=True),
    Figure("workers 1", "1 worker on two cores shared with the load", "µs CPU"),
    Figure("workers 1 rate", "the same, how many", "1/s", 0, higher=True),
    Figure("workers 2", "2 workers on two cores shared with the load", "µs CPU"),
    Figure("workers 2 rate", "the same, how many", "1/s", 0, higher=True),
)

Values = dict[str, float]


def start(lab: Lab, proxy: Proxy, _: Plan) -> Values:
    """A process that has just been started: how long that took, and what it holds before anybody has come."""
    with lab.proxy(proxy) as running:
        running.settled()
        private, pss = running.process.memory()
        return {"start": running.starting * 1000, "private": private, "pss": pss}


def held(lab: Lab, proxy: Proxy, plan: Plan) -> Values:
    """Connections that have had one answer each and now wait; behind those of the tcp kind a backend's waits, too."""
    with lab.proxy(proxy) as running, running.client("hold") as client:
        client.says()
        values: Values = {}
        for name, wanted in zip(("some", "many"), plan.held, strict=True):
            client.told(str(wanted))
            if json.loads(client.says())["held"] != wanted:
                raise BenchError(f"{proxy.name}: did not hold {wanted} connections")
            running.settled()
            values[f"private {name}"], values[f"pss {name}"] = running.process.memory()
        grown = values["private many"] - values["private some"]
        return values | {"per connection": grown * 1000 / (plan.held[1] - plan.held[0])}


def small(running: Running, plan: Plan) -> Values:
    loop = running.closed(CONNECTIONS, plan.seconds)
    return {"small": loop.cpu / loop.requests * 1e6, "small rate": loop.rate}


def single(running: Running, _: Plan) -> Values:
    loop = running.closed(1, 1)
    return {"single": loop.cpu / loop.requests * 1e6}


def browser(running: Running, plan: Plan) -> Values:
    loop = running.closed(CONNECTIONS, plan.seconds, script=True)
    running.logged(loop.sent)
    return {"browser": loop.cpu / loop.requests * 1e6, "browser rate": loop.rate}


def bulk(running: Running, plan: Plan) -> Values:
    values = {}
    for part in ("download", "upload"):
        told, cpu = running.costs(part, "-n", plan.bulk)
        if told["status"] != 200 or told["bytes"] != plan.bulk:
            raise BenchError(f"{running.proxy.name}: {part} of {plan.bulk} bytes ended with {told}")
        values[part] = cpu / (plan.bulk / 1e9)
    return values


def handshake(running: Running, plan: Plan) -> Values:
    values = {}
    for figure, part, resumed in (("handshake", "handshakes", 0), ("resumed", "resumed", plan.handshakes)):
        told, cpu = running.costs(part, "-n", plan.handshakes)
        if told["resumed"] != resumed:
            raise BenchError(f"{running.proxy.name}: {told['resumed']} of {resumed} handshakes were resumed")
        values[figure] = cpu / plan.handshakes * 1e6
    return values


def latency(running: Running, plan: Plan, rate: float) -> Values:
    told, _ = running.costs("rate", "-rps", round(rate), "-seconds", plan.latency_seconds, "-c", CONNECTIONS)
    return {name: told[name] for name in ("p50", "p99", "p99.9")}


def workers(lab: Lab, proxy: Proxy, plan: Plan) -> Values:
    """Both cores for everybody: only the ratio between the two rates says something."""
    values = {}
    both = (PROXY_CPU, LOAD_CPU)
    for count in (1, 2):
        with lab.proxy(proxy, workers=count, cpus=both) as running:
            loop = running.closed(CONNECTIONS, plan.seconds, cpus=both)
            values |= {f"workers {count}": loop.cpu / loop.requests * 1e6, f"workers {count} rate": loop.rate}
    return values


FRESH: dict[str, Callable[[Lab, Proxy, Plan], Values]] = {"start": start, "held": held, "workers": workers}
"""Stages that start the proxy themselves; all others measure one that serves throughout."""

SERVING: dict[str, Callable[[Running, Plan], Values]] = {
    "small": small, "browser": browser, "single": single, "bulk": bulk, "handshake": handshake,
}  # fmt: skip
