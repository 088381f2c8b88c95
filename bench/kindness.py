"""
What clients lose while targets are stopped and replaced: through the plain port, and through the sidecar's.

    .venv/bin/python bench/kindness.py [ROUNDS]

Needs the images (`make images`) and Docker Compose. Runs an injector of its own, confined to its own containers, makes
the engine the manager of a Swarm of one for a while, and removes what it started. A request is lost if it was sent and
not answered in whole; one whose connection was refused, or failed before anything was asked, goes to the next replica.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.pop(0)  # this folder, which has a `lab`, too
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lab.engine import Lab, reach, swarm
from lab.injector import Injector
from lab.kindness import IMAGE, Outcome, recreate, roll, stop_and_start
from lab.trust import Home


def measured(what: str, run: Callable[[Lab], Outcome]) -> None:
    """Run one in a lab of its own, and print what came of it."""
    api = reach()
    lab, home = Lab(api), Home()
    os.environ.update(home.env)
    injector = Injector(lab.scope, "--allow-image", IMAGE)
    try:
        injector.is_ready()
        print(f"{what}\n{run(lab)}\n", flush=True)
    finally:
        injector.stop()
        lab.clean()
        home.remove()
        api.close()


def rolled(lab: Lab, order: str) -> Outcome:
    with swarm(lab.api) as manager:
        return roll(lab, manager, "lame", order)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    for kind in ("lame", "finishes", "dies"):
        measured(
            f"docker stop, {rounds} times; the target: {kind}", lambda lab, kind=kind: stop_and_start(lab, kind, rounds)
        )
    with tempfile.TemporaryDirectory() as folder:
        measured(
            "docker-compose up -d --force-recreate, twice; the target: lame",
            lambda lab: recreate(lab, Path(folder), "lame", 2),
        )
    for order in ("start-first", "stop-first"):
        measured(
            f"docker service update --force, {order}; the target: lame", lambda lab, order=order: rolled(lab, order)
        )


if __name__ == "__main__":
    main()
