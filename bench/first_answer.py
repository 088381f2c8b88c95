"""
How long a target is without TLS: from its `start` event to the first HTTPS answer, and the same by hand.

    .venv/bin/python bench/first_answer.py [ROUNDS]

Needs the images (`make images`). Runs an injector of its own, confined to its own containers, in turn with
`docker run -d --network=container:… sslterm`, and removes what it started. Milliseconds; median (least to most).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lab.engine import Lab, fetch, reach
from lab.injector import Injector

PAUSE = 0.002


def first_answer(lab: Lab, target: str, since: float) -> float:
    """Milliseconds since `since` (of the wall clock) when HTTPS is answered for the first time."""
    address = lab.address(target)
    for _ in range(10_000):
        if fetch(address, "/pi/1"):
            return (time.time() - since) * 1000
        time.sleep(PAUSE)
    raise SystemExit("no answer")


def started_at(lab: Lab, container: str, begun: float) -> float:
    """When the engine said that the container started, in seconds since 1970."""
    events = lab.api.events(
        since=int(begun), until=int(time.time()) + 1, filters={"container": container, "event": "start"}, decode=True
    )
    return next(event["timeNano"] for event in events) / 1e9


def injected(lab: Lab) -> tuple[float, float]:
    """From the target's start to its sidecar's, and to the first answer."""
    begun = time.time()
    target = lab.run()
    answered = first_answer(lab, target, 0) / 1000
    (sidecar,) = lab.sidecars(target)
    start = started_at(lab, target, begun)
    figures = (started_at(lab, sidecar["Id"], begun) - start) * 1000, (answered - start) * 1000
    lab.api.stop(target, timeout=0)
    lab.is_left_alone(target)
    lab.remove(target)
    return figures


def by_hand(lab: Lab) -> float:
    """From `docker run -d --network=container:… sslterm` to the first answer."""
    target = lab.run(asks=False)
    begun = time.time()
    made = subprocess.run(
        ("docker", "run", "-d", "--label", f"byfahrer-test={lab.mark}", f"--network=container:{target}", "sslterm"),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    answered = first_answer(lab, target, begun)
    lab.remove(made.stdout.strip())
    lab.remove(target)
    return answered


def told(what: str, figures: list[float]) -> None:
    print(f"{what:<52}{statistics.median(figures):6.0f} ({min(figures):.0f} to {max(figures):.0f})")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    lab = Lab(reach())
    injector = Injector(lab.scope, level="info").is_ready()
    sidecars, answers, hands = [], [], []
    try:
        injected(lab)
        by_hand(lab)
        for _ in range(rounds):
            sidecar, answer = injected(lab)
            sidecars.append(sidecar)
            answers.append(answer)
            hands.append(by_hand(lab))
    finally:
        injector.stop()
        lab.clean()
        lab.api.close()
    told("target's start event to its sidecar's start event", sidecars)
    told("target's start event to its first HTTPS answer", answers)
    told("docker run of a sidecar by hand to the first answer", hands)


if __name__ == "__main__":
    main()
