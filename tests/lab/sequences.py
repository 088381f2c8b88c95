"""Sequences of steps: what happens, to whom, when, and how long until the next; drawn by hypothesis, or by a seed."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from lab.promise import KINDS, SERVICES, Step

WAITS = (0.0, 0.01, 0.05, 0.15, 0.5, 1.2, 4.0, 11.0, 35.0)
PLACES = (0, 0, 0, 1, 1, 2)
"""Most of what happens happens to few."""
# Between create and start; after either; while one is put away; while it is looked at.
MOMENTS = ("create", "start", "restart", "kill", "remove", "inspect", "containers", "rename")

ASKING = [*["asks", "tcp", "task"] * 3, *KINDS]
ON_TARGETS = {
    "run": ASKING,
    "recreate": ASKING,
    "remove": [""],
    "stop": [""],
    "kill": [""],
    "start": [""],
    "restart": ["0", "0.1", "3"],
    "crash": ["1", "3", "6"],
    "pause": [""],
    "unpause": [""],
    "rename": ["", "www0", "www1", "www2"],
    "flap": [""],
    "hand": [""],
    "sidecar": ["kill", "remove", "stop", "pause", "unpause", "unhealthy", "rename"],
    "stranger": ["", "forged"],
    "farewell": [""],
}
ON_ALL = {
    "image": ["gone", "back", "updated", "broken", "mended"],
    "service": sorted(SERVICES),
    "engine": ["away", "back", "ends", "deaf", "hears", "slow", "quick", "hangs", "wakes"],
    "fail": [
        f"{method} {how}"
        for method in ("create", "start", "restart", "stop", "remove", "rename", "inspect", "containers", "image_id",
                       "events", "connect", "service", "ping")
        for how in ("500", "409", "404", "away", "lost")
    ],
    "injector": ["kill", "stop", "start", "second", "upgrade"],
    "clock": ["-86400", "-5", "5", "86400"],
}  # fmt: skip

# Before the first list on the timer, and after it: from then on only what has changed is looked at.
BEGINNINGS = [
    [Step("run", wait=0.5), Step("run", who=1, what="task", wait=0.5)],
    [Step("service", what="asks"), Step("run", wait=0.5), Step("run", who=1, what="task", wait=40.0)],
]

OFTEN = {"restart": 3, "sidecar": 4, "fail": 3, "image": 3, "engine": 3, "injector": 3, "service": 2}


def _next(dice):
    """What happens next, to whom, when."""
    kinds = ON_TARGETS | ON_ALL
    do = dice.choices(sorted(kinds), [OFTEN.get(do, 1) for do in sorted(kinds)])[0]
    who = dice.choice(PLACES) if do in ON_TARGETS else 0
    what, wait = dice.choice(kinds[do]), dice.choice(WAITS)
    at = dice.choice(MOMENTS) if do != "fail" and dice.random() < 0.2 else ""
    step = Step(do, who=who, what=what, wait=wait, at=at)
    if dice.random() < 0.2:  # no event tells of it
        return [Step("engine", what="deaf"), step, Step("engine", what="hears")]
    return [step]


def sequence(number):
    """The sequence of a number."""
    dice = random.Random(number)
    happens = list(dice.choice(BEGINNINGS))
    for _ in range(dice.randint(1, 12)):
        happens += _next(dice)
    return happens


def sequences():
    """
    For hypothesis, which draws a number only.

    Left to draw each part, it stays near what it had before, and misses in thousands what this finds in a hundred.
    """
    return st.integers(0, 2**64 - 1).map(sequence)


# What needs a Swarm, a clock that may be set, or an engine that fails when it is told to, stays in memory.
ELSEWHERE = {"hand", "service", "fail", "clock"}
ELSEWHERE |= {f"engine {what}" for what in ("slow", "quick", "hangs", "wakes")} | {"image broken", "image mended"}
ELSEWHERE |= {f"{do} task" for do in ("run", "recreate")} | {"sidecar unhealthy"}


def sample(seed, length=10):
    """A sequence that a real engine can be put through too; the same for the same seed."""
    dice = random.Random(seed)
    kinds = {
        do: [what for what in whats if f"{do} {what}" not in ELSEWHERE]
        for do, whats in {**ON_TARGETS, **ON_ALL}.items()
        if do not in ELSEWHERE
    }
    chosen = [Step("run", who=0, wait=1.0), Step("run", who=1, what="tcp", wait=1.0)]
    for _ in range(length):
        do = dice.choice(sorted(kinds))
        who = dice.choice((0, 0, 1)) if do in ON_TARGETS else 0
        chosen.append(Step(do, who=who, what=dice.choice(kinds[do]), wait=dice.choice((0.0, 0.1, 0.3, 1.2))))
    return chosen
