"""
sslterm beside its peers, in one run: the same certificate, cipher, backend, load and processors for all.

    .venv/bin/python -m bench.run [--quick] [--only STAGE,…] [--proxies NAME,…] [--rounds N]

The proxy has CPU 0; the load and the backend have CPU 1. In each round every proxy has its turn, every other round in
the opposite order. The whole writes docs/bench.json, .md and .svg; a part of it, or the quick look, only .cache/bench/.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from bench import report
from bench.figures import FRESH, FULL, QUICK, SERVING, STAGES, Plan, Values, latency
from bench.lab import Lab, Running, build
from bench.process import BenchError
from bench.proxies import BUILT, PROXIES, ROOT, Proxy, sslterm_has_workers

ABUSE = ROOT / "bench" / "abuse.py"


class Progress:
    """One line that is written over on a terminal; elsewhere a line for each stage."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._stage = ""

    def __call__(self, stage: str, detail: str = "") -> None:
        seconds = f"{time.monotonic() - self._began:4.0f} s"
        if self._terminal:
            print(f"\r\033[K{seconds}  {stage}: {detail}", end="", file=sys.stderr, flush=True)
        elif stage != self._stage:
            print(f"{seconds}  {stage}", file=sys.stderr, flush=True)
        self._stage = stage

    def clear(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class Run:
    """The rounds of all stages, and what they gave: by figure, proxy and round."""

    def __init__(self, lab: Lab, plan: Plan, proxies: tuple[Proxy, ...], progress: Progress) -> None:
        self.lab, self.plan, self.proxies, self.progress = lab, plan, proxies, progress
        self.results: dict[str, dict[str, list[float]]] = {}
        self.rate = 0.0
        """Requests per second at which latencies were measured."""

    def measure(self, stages: list[str]) -> None:
        with ExitStack() as stack:
            quiet: dict[str, Running] = {}
            logging: dict[str, Running] = {}
            for proxy in self.proxies:
                self.progress("starting", proxy.name)
                quiet[proxy.name] = stack.enter_context(self.lab.proxy(proxy))
                quiet[proxy.name].check()
                if proxy.logs and "browser" in stages:
                    logging[proxy.name] = stack.enter_context(self.lab.proxy(proxy, log=True))
                    logging[proxy.name].check()
            for stage in stages:
                self._stage(stage, logging if stage == "browser" else quiet)

    def _stage(self, stage: str, running: dict[str, Running]) -> None:
        if stage == "latency":
            slowest = [
                median(rates) for name, rates in self.results["small rate"].items() if not name.startswith("sslterm")
            ]
            self.rate = min(slowest or [2000.0]) / 2
        proxies = [proxy for proxy in self.proxies if proxy.name in running and (stage != "workers" or proxy.ours)]
        rounds = self.plan.rounds[stage]
        for turn in range(rounds):
            for proxy in proxies if turn % 2 == 0 else reversed(proxies):
                self.progress(stage, f"{proxy.name}, round {turn + 1} of {rounds}")
                self._keep(proxy, self._values(stage, proxy, running[proxy.name]))
                if not running[proxy.name].process.alive():
                    raise BenchError(f"{proxy.name}: ended under load")

    def _values(self, stage: str, proxy: Proxy, running: Running) -> Values:
        if stage in FRESH:
            return FRESH[stage](self.lab, proxy, self.plan)
        if stage == "latency":
            return latency(running, self.plan, self.rate)
        return SERVING[stage](running, self.plan)

    def _keep(self, proxy: Proxy, values: Values) -> None:
        for figure, value in values.items():
            self.results.setdefault(figure, {}).setdefault(proxy.name, []).append(value)


def abuse() -> object:
    """What bench/abuse.py finds, the one part that has no peers."""
    found = BUILT / "abuse.json"
    found.unlink(missing_ok=True)
    done = subprocess.run((sys.executable, ABUSE, "--json", found), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{ABUSE.name}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(found.read_text())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="sslterm beside its peers, in one run")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less of everything: within two minutes")
    parser.add_argument("--only", metavar="STAGE,…", help=f"some of {', '.join(STAGES)}")
    parser.add_argument("--proxies", metavar="NAME,…", help=f"some of {', '.join(proxy.name for proxy in PROXIES)}")
    parser.add_argument("--rounds", type=int, help="so many rounds of each stage")
    chosen = parser.parse_args()
    for option, names in (("only", STAGES), ("proxies", [proxy.name for proxy in PROXIES])):
        given = getattr(chosen, option)
        wanted = [name.strip() for name in given.split(",")] if given else list(names)
        if unknown := [name for name in wanted if name not in names]:
            parser.error(f"--{option}: no {unknown[0]!r}; there are {', '.join(names)}")
        setattr(chosen, option, [name for name in names if name in wanted])
    return chosen


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    plan = QUICK if chosen.quick else FULL
    if chosen.rounds:
        plan = replace(plan, rounds=dict.fromkeys(STAGES, chosen.rounds))
    stages, proxies = chosen.only, tuple(proxy for proxy in PROXIES if proxy.name in chosen.proxies)
    whole = stages == list(STAGES) and proxies == PROXIES and not chosen.rounds
    if "latency" in stages and "small" not in stages:
        stages.insert(0, "small")
    if "workers" in stages and not sslterm_has_workers():
        stages.remove("workers")
    plan = replace(plan, rounds={stage: plan.rounds[stage] for stage in stages})
    folder = ROOT / "docs" if whole and not chosen.quick else BUILT
    progress = Progress()
    abused: object = None
    try:
        progress("building bench/*.go")
        build()
        conditions = report.conditions(plan, chosen.quick)
        with Lab(plan.bulk) as lab:
            run = Run(lab, plan, proxies, progress)
            run.measure(stages)
    except (BenchError, KeyboardInterrupt) as stopped:
        progress.clear()
        print(f"error: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 1
    failed = ""
    if whole and not chosen.quick:
        progress("abuse")
        try:
            abused = abuse()
        except (BenchError, KeyboardInterrupt) as stopped:  # what was measured until here is worth keeping
            failed = str(stopped) or "stopped"
    progress.clear()
    told = report.Report(run.results, conditions | {"rate": round(run.rate)}, plan, abused)
    print(told.screen())
    for path in told.save(folder):
        print(f"written: {path.relative_to(ROOT)}")
    if failed:
        print(f"error: {failed}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
