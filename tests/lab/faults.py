"""
What is broken on purpose, by number and name, and how long it takes until all is well again.

One oracle for all of them, which asks the engine and the kernel and nobody else: every running container that asks for
a sidecar has exactly one, which runs in its present network namespace, is what its labels say, and answers; there is no
other sidecar. Times are recorded and shown. None is asserted: a busy machine is no fault of byfahrer's.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from docker.errors import DockerException

TITLES = {
    1: "the target crashes, is killed, stopped or removed",
    2: "the target is stopped with requests in flight",
    3: "the target restarts",
    4: "the target is in a crash loop",
    5: "the target vanishes between create and start of its sidecar",
    6: "the target is paused",
    7: "the target runs out of memory",
    8: "the target is renamed, or made anew under its old name",
    9: "the target's networks flap",
    10: "the sidecar crashes, hangs, or is taken away",
    11: "the sidecar crashes while its target is down",
    12: "a signal to the sidecar through the engine",
    13: "the engine restarts",
    14: "the engine is killed",
    15: "a target dies while the engine is away (live-restore)",
    16: "the engine hangs, is away, or answers badly",
    17: "events are lost",
    18: "the injector is slow",
    19: "the injector is killed, or there are two",
    20: "the port is taken",
    21: "awkward targets",
    22: "certificates are reloaded, bad ones and good ones, under load",
    23: "clients without the right certificate",
    24: "no space is left",
    25: "the ACME server and the clock fail",
    26: "floods of connections",
    27: "smuggled and malformed HTTP",
    28: "the target aborts, or is a black hole",
    29: "the sidecar is shut down or handed over under load",
    30: "tasks of a Swarm service come and go",
}
"""The matrix."""

ELSEWHERE = {
    2: ("engine/test_kind_to_targets.py", "behaviour/test_a_lame_duck_loses_nobody.py"),
    22: ("behaviour/test_certificates_reload_without_a_restart.py", "engine/test_rotation_loses_nothing.py"),
    23: ("behaviour/test_clients_prove_who_they_are.py", "behaviour/test_clients_authorities_reload.py"),
    25: ("behaviour/test_acme_failures_are_told_once.py", "behaviour/test_acme_renews_by_itself.py"),
    26: ("behaviour/test_flood.py", "behaviour/test_out_of_descriptors.py", "behaviour/test_limits_of_time.py"),
    27: ("behaviour/test_malformed_head_400.py", "behaviour/test_backends_see_what_was_accepted.py"),
    28: ("behaviour/test_truncation_is_visible.py", "behaviour/test_backend_silent_504.py",
         "behaviour/test_extra_bytes_never_reach_next_response.py", "behaviour/test_tcp_half_close.py"),
    29: ("behaviour/test_drain.py", "behaviour/test_hand_over_loses_nothing.py"),
}  # fmt: skip
"""Those that have tests in other folders, most without an engine."""


@dataclass
class Fault:
    """One fault in one test, and the times that it took to be made good."""

    number: int
    what: str
    holds: str
    test: str
    seconds: list[float] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    """Other things that were measured."""
    _since: float = 0.0

    def happens(self):
        """From now on the injector can make it good: the fault is done, or what that needs is there again."""
        self._since = time.monotonic()

    def converges(self, lab, seconds=60.0):
        """Wait until the promise holds; how long that took is recorded."""
        self._wait(lambda: complaints(lab), seconds)

    def holds_once(self, condition, seconds=60.0):
        """Wait until `condition()` is true, likewise."""
        self._wait(lambda: [] if condition() else ["the test's own condition"], seconds)

    def _wait(self, complaining, seconds):
        deadline = time.monotonic() + seconds
        while wrong := complaining():
            assert time.monotonic() < deadline, f"fault {self.number}, not made good within {seconds} s: {wrong}"
            time.sleep(0.02)
        self.seconds.append(time.monotonic() - self._since)

    def measured(self, figure):
        self.figures.append(figure)

    @property
    def times(self):
        """As the table shows them."""
        if not self.seconds:
            shown = ""
        elif len(self.seconds) == 1:
            shown = f"{self.seconds[0]:.2f}"
        else:
            shown = f"{median(self.seconds):.2f} (at most {max(self.seconds):.2f}, of {len(self.seconds)})"
        return "; ".join([*([shown] if shown else []), *self.figures])


def complaints(lab, *, answers=True):
    """What is not as promised on this test's part of an engine; empty if all is well."""
    found = []
    try:
        everything = lab.api.containers(all=True, filters={"label": [f"byfahrer-test={lab.mark}"]})
        shown = [inspected for each in everything if (inspected := lab.look(each["Id"]))]
        targets = {each["Id"]: each for each in shown if _asks(each) and _runs(each)}
        owned = {}
        for each in shown:
            owner = each["Config"]["Labels"].get("byfahrer.target")
            if owner is None:
                continue
            owned.setdefault(owner, []).append(each)
            if owner not in targets:
                found.append(f"{each['Name']} belongs to nobody that runs")
        for target_id, target in targets.items():
            found += _wrong(lab, target, owned.get(target_id, []), answers)
    except (DockerException, OSError, StopIteration) as error:
        found.append(f"it cannot be told: {error!r}")
    return found


def _asks(container):
    carried = container["Config"]["Labels"]
    return "byfahrer.proxy-image" in carried and "byfahrer.target" not in carried


def _runs(container):
    return container["State"]["Status"] in ("running", "paused") and container["State"]["Pid"] > 0


def _wrong(lab, target, sidecars, answers):
    name = target["Name"]
    if len(sidecars) != 1:
        return [f"{name} has {len(sidecars)} sidecars"]
    (sidecar,) = sidecars
    if sidecar["State"]["Status"] != "running":
        return [f"{sidecar['Name']} is {sidecar['State']['Status']}"]
    here, there = (lab.namespace_of(each["State"]["Pid"]) for each in (target, sidecar))
    if here is None or here != there:
        return [f"{sidecar['Name']} is in {there}, {name} in {here}"]
    carried = target["Config"]["Labels"]
    if sidecar["Config"]["Image"] != (wanted := carried["byfahrer.proxy-image"]):
        return [f"{sidecar['Name']} is made from {sidecar['Config']['Image']}, asked for was {wanted}"]
    if (image := lab.image_id(wanted)) and image != sidecar["Image"]:
        return [f"{sidecar['Name']} is made from what {wanted} was before"]
    port = carried.get("byfahrer.frontend")
    if port and f"SSLTERM_FRONTEND_ADDR={port}" not in sidecar["Config"]["Env"]:
        return [f"{sidecar['Name']} does not listen on {port}"]
    if answers and target["State"]["Status"] == "running":
        answer = lab.fetch(target["Id"])
        if answer is None or answer[0] != 200:
            return [f"{sidecar['Name']} answers {answer}"]
    return []


@contextmanager
def never_two(lab, *target_ids):
    """Fails if in the meantime any of these has more than one sidecar that runs."""
    stop, most = threading.Event(), dict.fromkeys(target_ids, 0)

    def look():
        while not stop.wait(0.02):
            for each in target_ids:
                listed = lab.api.containers(filters={"label": [f"byfahrer.target={each}"]})
                most[each] = max(most[each], len(listed))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert max(most.values()) == 1, most


def table(faults):
    """Rows for people who watch the tests."""
    rows = [(str(each.number), each.what, each.times) for each in sorted(faults, key=lambda each: each.number)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{number:>{widths[0]}}  {what:<{widths[1]}}  {times}" for number, what, times in rows]


def report(faults, head, root: Path):
    """The table as a page of the documentation."""
    lines = [head, ""]
    for number, title in TITLES.items():
        lines += [f"## {number}. {title[0].upper()}{title[1:]}", ""]
        mine = [each for each in faults if each.number == number]
        if mine:
            lines += ["| what happens | what holds | seconds | test |", "| --- | --- | --- | --- |"]
            lines += [f"| {each.what} | {each.holds} | {each.times} | {_link(each.test)} |" for each in mine]
        elif number in ELSEWHERE:
            lines += ["Tests of this:", ""]
        else:
            raise AssertionError(f"nothing shows fault {number}: run all of tests/engine/faults")
        for path in ELSEWHERE.get(number, ()):
            assert (root / "tests" / path).is_file(), path
            lines += [f"- [{Path(path).stem}](../tests/{path})"]
        lines += [""]
    return "\n".join(lines)


def _link(test):
    path, _, name = test.partition("::")
    return f"[{name.partition('[')[0]}](../{path})"
