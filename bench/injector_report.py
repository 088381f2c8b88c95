"""What the injector's bench found, as Markdown. Pure, but for the conditions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

MOST_IDLE, MOST_MEMORY, MOST_RATIO = 0.01, 80.0, 1.3

OF_CALLS = """\
Beside a ping every 8 seconds and one stream of events. A target that starts or restarts is looked at again when its
sidecar has."""
OF_BURSTS = """\
All targets start at once; sidecars are made eight at a time. By hand: the docker SDK's create and start, of the same
sidecar, as soon as its target's start has returned. Median (least..most) of alternating rounds; a ratio is the median
of the rounds' ratios. With the authority, byfahrer also puts a token into each sidecar and signs its certificate."""


def conditions(version: Mapping[str, Any], burst: int, rounds: int, quick: bool) -> dict[str, Any]:
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": "make bench-injector QUICK=1" if quick else "make bench-injector",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "engine": version.get("Version", "unknown"),
        "python": platform.python_version(),
        "burst of": burst,
        "rounds": rounds,
    }


def told(results: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    parts = [
        "# What byfahrer costs",
        "Made by `make bench-injector`; do not edit. The figures are in [bench-injector.json](bench-injector.json).",
        "{date}, {cpu}, {cores} cores, Linux {kernel}, Docker Engine {engine}, Python {python}; {command}. Targets, "
        "sidecars, the engine, byfahrer and whoever asks share the cores. A target is served when HTTPS through its "
        "sidecar brings what it says.".format(**conditions),
    ]
    if "cold" in results:
        parts += ["## Cold start and idle", table(["figure", "value", "bar"], _lone(results))]
    if "calls" in results:
        parts += ["## Calls to the engine", _calls(results["calls"])]
    if "burst" in results:
        parts += [f"## A burst of {conditions['burst of']}", _burst(results["burst"])]
    return "\n\n".join(parts) + "\n"


def _lone(results: Mapping[str, Any]) -> list[list[str]]:
    cold = results["cold"]
    rows = [
        ["from the start of byfahrer to the first target served, s", f"{cold['first']:.1f}", ""],
        ["to half of them, s", f"{cold['median']:.1f}", ""],
        ["to the last, s", f"{cold['last']:.1f}", ""],
        ["its processor time until then, s", f"{cold['cpu']:.1f}", ""],
        ["its memory then, MB", f"{cold['memory']:.0f}", f"< {MOST_MEMORY:.0f}"],
    ]
    if "idle" in results:
        idle = results["idle"]
        rows += [
            [
                f"idle with {idle['targets']} sidecars, % of a core",
                f"{idle['share'] * 100:.2f}",
                f"< {MOST_IDLE * 100:.0f}",
            ],
            ["its memory then, MB", f"{idle['memory']:.0f}", f"< {MOST_MEMORY:.0f}"],
        ]
    return rows


def _calls(calls: Mapping[int, Mapping[str, Mapping[str, int]]]) -> str:
    sizes = list(calls)
    rows = []
    for event in calls[sizes[0]]:
        counts = [str(sum(calls[size].get(event, {}).values())) for size in sizes]
        which = ", ".join(f"{n} {name}" for name, n in calls[sizes[-1]].get(event, {}).items())
        rows.append([event, *counts, which])
    head = ["what happens", *(f"calls, {size} targets there" for size in sizes), "which, in the last case"]
    return f"{table(head, rows)}\n\n{OF_CALLS}"


def _burst(burst: Mapping[str, Sequence[float]]) -> str:
    hand = burst["by hand"]
    rows = []
    for name, times in burst.items():
        ratio = median(mine / theirs for mine, theirs in zip(times, hand, strict=True))
        spread = f"{median(times):.1f} ({min(times):.1f}..{max(times):.1f})"
        rows.append(
            [name, spread, "" if times is hand else f"{ratio:.2f}", "" if times is hand else f"<= {MOST_RATIO}"]
        )
    head = ["who makes the sidecars", "last target served after, s", "ratio to by hand", "bar"]
    return f"{table(head, rows)}\n\n{OF_BURSTS}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
