"""
What byfahrer costs: a cold start, its idle time, its calls to the engine, and a burst beside the same by hand.

    .venv/bin/python -m bench.injector [--quick] [--only STAGE,…] [--targets N] [--rounds N]

Needs a Docker Engine and the image sslterm, and removes all that it made, also when it is stopped. The whole run writes
docs/bench-injector.md and .json; a part of it, or the quick look, only .cache/bench/.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench import injector_report as report
from bench.counting import Counting
from bench.fleet import AT_ONCE, LONGEST, Daemon, Fleet, Served
from bench.process import BenchError
from bench.proxies import BUILT, ROOT
from bench.run import Progress

STAGES = ("calls", "cold", "idle", "burst")
FEW = 10
"""Targets beside which an event is counted first; then beside all."""
QUIET = 5.0
"""Seconds without a call after which what an event made byfahrer do is over."""
SETTLE = 65.0
"""Seconds from the last sidecar until it is idle: two resyncs."""


@dataclass(frozen=True)
class Plan:
    targets: int
    burst: int
    rounds: int
    idle: float
    """Seconds over which the idle daemon is watched."""


FULL = Plan(targets=200, burst=50, rounds=5, idle=60.0)
QUICK = Plan(targets=40, burst=20, rounds=1, idle=20.0)


class Run:
    def __init__(self, fleet: Fleet, plan: Plan, progress: Progress) -> None:
        self._fleet, self._plan, self._progress = fleet, plan, progress
        self.results: dict[str, Any] = {}

    def measure(self, stages: list[str]) -> None:
        if "calls" in stages:
            self._progress("calls", f"beside {FEW} targets")
            self.results["calls"] = {FEW: self._calls(FEW)}
        if {"cold", "idle"} & set(stages):
            self._cold("idle" in stages)
        if "calls" in stages:
            self._progress("calls", f"beside {self._plan.targets} targets")
            self.results["calls"][self._plan.targets] = self._calls(self._plan.targets)
        self._progress("clearing")
        self._fleet.clear()
        if "burst" in stages:
            self._bursts()

    def _cold(self, idle: bool) -> None:
        fleet, many = self._fleet, self._plan.targets
        self._progress("cold start", f"starting {many} targets")
        fleet.clear()
        targets = fleet.targets(many)
        fleet.start(targets)
        self._progress("cold start", "byfahrer")
        with Served(fleet) as served, Daemon(fleet) as daemon:
            times = served.all(targets)
            self.results["cold"] = {
                "first": times[0], "median": median(times), "last": times[-1], "ready": daemon.ready(),
                "cpu": daemon.cpu(), "memory": daemon.memory(), "complaints": daemon.complaints(),
            }  # fmt: skip
            if idle:
                self._progress("idle", "waiting until it is")
                time.sleep(SETTLE)
                self._progress("idle", f"{self._plan.idle:.0f} s")
                began, spent = time.monotonic(), daemon.cpu()
                time.sleep(self._plan.idle)
                share = (daemon.cpu() - spent) / (time.monotonic() - began)
                self.results["idle"] = {"share": share, "memory": daemon.memory(), "targets": many}

    def _calls(self, many: int) -> dict[str, dict[str, int]]:
        """Calls by their names: of a resync, and of a target that starts, restarts, and goes."""
        fleet = self._fleet
        there = fleet.api.containers(filters={"label": [fleet.scope, "byfahrer.proxy-image"]})
        fleet.start(fleet.targets(max(0, many - len(there))))
        counting = Counting(fleet.folder, os.environ.get("DOCKER_HOST", "/var/run/docker.sock").removeprefix("unix://"))
        found: dict[str, dict[str, int]] = {}

        def count(name: str, act: Callable[[], object], done: Callable[[], bool]) -> None:
            before = counting.calls.copy()
            act()
            deadline = time.monotonic() + LONGEST
            while not (done() and counting.quiet(QUIET)):
                if time.monotonic() > deadline:
                    raise BenchError(f"byfahrer: '{name}' does not come to an end within {LONGEST:.0f} s")
                time.sleep(0.1)
            found[name] = counting.since(before)

        try:
            with Daemon(fleet, "--resync", "1h", engine=counting.path) as daemon:
                daemon.ready()
                (target,) = fleet.targets(1)
                count("(settling)", lambda: None, lambda: True)
                count("a target starts", lambda: fleet.start([target]), lambda: fleet.served(target))
                count("it restarts", lambda: fleet.api.restart(target, timeout=0), lambda: fleet.served(target))
                count("it goes", lambda: fleet.remove([target]), lambda: not fleet.sidecars(target))
            with Daemon(fleet, "--resync", "5s", engine=counting.path) as daemon:
                daemon.ready()
                time.sleep(12)
                before = counting.calls.copy()
                time.sleep(30)
                calls = counting.since(before)
            lists = calls.get("GET /containers/json of all", 0)
            if not lists:
                raise BenchError("byfahrer: no resync within 30 s of --resync 5s")
            found["a resync"] = {name: round(n / lists) if n % lists == 0 else n for name, n in calls.items()}
        finally:
            counting.close()
            counting.path.unlink(missing_ok=True)
        del found["(settling)"]
        return found

    def _bursts(self) -> None:
        like = self._template()
        ways: dict[str, Callable[[], float]] = {
            "by hand": lambda: self._by_hand(like),
            "byfahrer, --authority off": lambda: self._by_byfahrer("--authority", "off"),
            "byfahrer": self._by_byfahrer,
        }
        kept: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(self._plan.rounds):
            order = list(ways) if turn % 2 == 0 else list(reversed(ways))
            for name in order:
                self._progress("burst", f"{name}, round {turn + 1} of {self._plan.rounds}")
                kept[name].append(ways[name]())
                self._fleet.clear()
        self.results["burst"] = kept

    def _template(self) -> dict[str, Any]:
        """What byfahrer makes, so that the same can be made by hand."""
        self._progress("burst", "what a sidecar is")
        (target,) = self._fleet.targets(1)
        with Served(self._fleet) as served, Daemon(self._fleet, "--authority", "off") as daemon:
            daemon.ready()
            self._fleet.start([target])
            served.all([target])
            (like,) = self._fleet.sidecars(target)
        self._fleet.clear()
        return like

    def _by_byfahrer(self, *options: str) -> float:
        targets = self._fleet.targets(self._plan.burst)
        with Daemon(self._fleet, *options) as daemon:
            daemon.ready()
            with Served(self._fleet) as served:
                self._fleet.start(targets, len(targets))
                return served.all(targets)[-1]

    def _by_hand(self, like: dict[str, Any]) -> float:
        targets = self._fleet.targets(self._plan.burst)
        making: list[Future[None]] = []
        with Served(self._fleet) as served, ThreadPoolExecutor(AT_ONCE) as pool:
            make = self._fleet.by_hand
            self._fleet.start(targets, len(targets), lambda target: making.append(pool.submit(make, like, target)))
            for each in making:
                each.result()
            return served.all(targets)[-1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what byfahrer costs")
    parser.add_argument("--quick", action="store_true", help="fewer of everything: within some minutes")
    parser.add_argument("--only", metavar="STAGE,…", help=f"some of {', '.join(STAGES)}")
    parser.add_argument("--targets", type=int, help="so many targets")
    parser.add_argument("--rounds", type=int, help="so many rounds of the burst")
    chosen = parser.parse_args()
    wanted = [name.strip() for name in chosen.only.split(",")] if chosen.only else list(STAGES)
    if unknown := [name for name in wanted if name not in STAGES]:
        parser.error(f"--only: no {unknown[0]!r}; there are {', '.join(STAGES)}")
    chosen.only = wanted
    return chosen


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    plan = QUICK if chosen.quick else FULL
    plan = Plan(chosen.targets or plan.targets, plan.burst, chosen.rounds or plan.rounds, plan.idle)
    whole = chosen.only == list(STAGES) and plan == FULL
    progress = Progress()
    try:
        with Fleet() as fleet:
            run = Run(fleet, plan, progress)
            run.measure(chosen.only)
            conditions = report.conditions(fleet.api.version(), plan.burst, plan.rounds, chosen.quick)
    except (BenchError, KeyboardInterrupt) as stopped:
        progress.clear()
        print(f"error: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 1
    progress.clear()
    folder = ROOT / "docs" if whole else BUILT
    folder.mkdir(parents=True, exist_ok=True)
    told = report.told(run.results, conditions)
    print(told)
    (folder / "bench-injector.json").write_text(json.dumps({**conditions, **run.results}, indent=1) + "\n")
    (folder / "bench-injector.md").write_text(told)
    print(f"written: {(folder / 'bench-injector.md').relative_to(ROOT)} and .json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
