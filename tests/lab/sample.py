"""
Steps on a real engine (`lab.promise`), with real injectors: those of them that can be had here.

The injectors reach the engine through a socket of ours, which can be away or keep events to itself. What makes no sense
now, the engine refuses, and that is nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from docker.errors import APIError

from lab.injector import Injector
from lab.promise import IMAGE, KINDS, Seen, World, promise
from lab.waiting import wait_until

RESYNC = 2
"""Seconds."""
SETTLE = 90.0
"""Seconds that are waited for at most; it takes a few."""
QUIET = 3.0 * RESYNC


class Sample(World):
    """One test's world on the engine. Methods `do_…` are the steps."""

    def __init__(self, lab, proxy):
        super().__init__()
        self._lab, self._api, self._proxy = lab, lab.api, proxy
        self._image = f"{IMAGE}:{lab.mark}"
        self._image_id = self._api.inspect_image(IMAGE)["Id"]
        self._user = "64443:64443"
        self._away = False
        self.daemons: list[Injector] = []
        self.gone: list[Injector] = []
        self._tag()

    # What is seen.

    def seen(self) -> list[Seen]:
        scope = {"label": [self._lab.scope]}
        found = [self._lab.look(each["Id"]) for each in self._api.containers(all=True, filters=scope)]
        return [self._one(each) for each in found if each]

    def _one(self, raw):
        config, env = raw["Config"], raw["Config"]["Env"] or []
        modes = [line.partition("=")[2] for line in env if line.startswith("SSLTERM_MODE=")]
        return Seen(
            id=raw["Id"], name=raw["Name"].lstrip("/"), status=raw["State"]["Status"], labels=config["Labels"],
            joined=raw["HostConfig"]["NetworkMode"], namespace=_namespace(raw["State"]["Pid"]), image_id=raw["Image"],
            user=config["User"], mode=modes[0] if modes else None,
            unhealthy=(raw["State"].get("Health") or {}).get("Status") == "unhealthy",
        )  # fmt: skip

    def broken(self) -> list[str]:
        seen = self.seen()
        how = {each.id: _state(each) for each in seen}
        wrong = promise(seen, self.wishes(), self._image_id, self._user)
        return wrong + [f"a stranger was {was}: {how.get(i)}" for i, was in self.strangers.items() if how.get(i) != was]

    # The steps.

    def do(self, step):
        with contextlib.suppress(APIError, ProcessLookupError):
            super().do(step)

    def do_run(self, step):
        kind = KINDS[step.what or "asks"]
        labels = {label: self._image if value == IMAGE else value for label, value in kind.labels.items()}
        host = {"restart_policy": {"Name": "always"}, "network_mode": kind.network}
        target_id = self._lab.run(f"www{step.who}", asks=False, labels=labels, host=host)
        self.places[step.who], self.kinds[target_id] = target_id, step.what or "asks"

    def do_recreate(self, step):
        self.do_remove(step)
        self.do_run(step)

    def do_remove(self, step):
        if step.who in self.places:
            self._lab.remove(self.places[step.who])

    def do_stop(self, step):
        self._api.stop(self._target(step), timeout=1)

    def do_kill(self, step):
        self._api.kill(self._target(step))

    def do_start(self, step):
        self._api.start(self._target(step))

    def do_restart(self, step):
        self._api.restart(self._target(step), timeout=0)

    def do_crash(self, step):
        """Not through the engine, which would cancel its restart policy."""
        for _ in range(int(step.what or 1)):
            state = (self._lab.look(self._target(step)) or {}).get("State", {"Pid": 0, "Status": "gone"})
            if state["Status"] != "running":
                return
            os.kill(state["Pid"], signal.SIGKILL)
            with contextlib.suppress(AssertionError):  # somebody stopped it meanwhile
                wait_until(lambda: self._lab.status(self._target(step)) == "running", 3)

    def do_pause(self, step):
        self._api.pause(self._target(step))

    def do_unpause(self, step):
        self._api.unpause(self._target(step))

    def do_rename(self, step):
        self._api.rename(self._target(step), f"{self._lab.mark}-{step.what or f'old{step.who}'}")

    def do_flap(self, step):
        self._api.disconnect_container_from_network(self._target(step), "bridge")
        self._api.connect_container_to_network(self._target(step), "bridge")

    def do_sidecar(self, step):
        mine = sorted(each.id for each in self.seen() if each.owner == self._target(step))
        if not mine:
            return
        if step.what == "remove":
            self._lab.remove(mine[-1])
        elif step.what == "rename":
            self._api.rename(mine[-1], f"{self._lab.mark}-mine{step.who}")
        elif step.what == "stop":
            self._api.stop(mine[-1], timeout=1)
        elif step.what != "unhealthy":
            getattr(self._api, step.what)(mine[-1])

    def do_stranger(self, step):
        name, labels = f"www{step.who}-proxy", {}
        if step.what == "forged":
            name = f"forged{step.who}"
            labels = {"byfahrer.target": self._target(step), "byfahrer.manual": "true", "byfahrer.spec": "x"}
        made = self._lab.run(name, asks=False, labels=labels)
        self.strangers[made] = next(_state(each) for each in self.seen() if each.id == made)

    def do_farewell(self, step):
        for each in self.seen():
            if each.id in self.strangers and each.name == f"{self._lab.mark}-www{step.who}-proxy":
                del self.strangers[each.id]
                self._lab.remove(each.id)

    def do_image(self, step):
        if step.what == "gone":
            self._api.remove_image(self._image, force=True, noprune=True)
        elif step.what == "updated":
            self._image_id = self._lab.image(f"sample={time.monotonic_ns()}", of=IMAGE)
        if step.what != "gone":
            self._tag()

    def do_engine(self, step):
        if step.what in ("away", "ends") and not self._away:
            self._proxy.close()
            self._away = True
        if step.what in ("back", "ends") and self._away:
            self._proxy.open()
            self._away = False
        if step.what in ("deaf", "hears"):
            self._proxy.deaf = step.what == "deaf"

    def do_injector(self, step):
        if step.what in ("kill", "stop", "upgrade"):
            for each in self.daemons[: 1 if step.what != "upgrade" else None]:
                self.daemons.remove(each)
                self.gone.append(each)
                each.stop(signal.SIGTERM if step.what == "stop" else signal.SIGKILL)
        if step.what == "upgrade":
            self._user = "64444:64444"
        lacking = {"start": 1, "upgrade": 1, "second": 2}.get(step.what, 0)
        if len(self.daemons) == lacking - 1:
            self.start_injector()

    # Running it.

    def start_injector(self):
        options = ("--resync", str(RESYNC), "--allow-image", f"{IMAGE}:*", "--sidecar-user", self._user)
        self.daemons.append(Injector(self._lab.scope, *options, env=self._proxy.env))

    def perform(self, step):
        print(f"{time.monotonic():9.3f} {step!r}")
        self.do(step)
        time.sleep(step.wait)

    def make_whole(self):
        if self._away:
            self._proxy.open()
            self._away = False
        self._proxy.deaf = False
        self._tag()
        if not self.daemons:
            self.start_injector()

    def settle(self) -> float:
        """Seconds until the promise holds; then nothing more is done."""
        begun = time.monotonic()
        while wrong := self.broken():
            assert time.monotonic() - begun < SETTLE, wrong
            time.sleep(0.1)
        took = time.monotonic() - begun
        before = self._starts()
        time.sleep(QUIET)
        assert self.broken() == []
        assert self._starts() == before
        return took

    def end(self):
        for each in self.daemons:
            each.stop()
        self.gone += self.daemons
        with contextlib.suppress(APIError):
            self._api.remove_image(self._image, force=True, noprune=True)

    def _starts(self):
        """Every container and its last start: what nobody may change when nothing is to be done."""
        return {each.id: (self._lab.look(each.id) or {}).get("State", {}).get("StartedAt") for each in self.seen()}

    def _tag(self):
        self._api.tag(self._image_id, IMAGE, self._lab.mark, force=True)

    def _target(self, step):
        return self.places.get(step.who, "none")


def _namespace(pid):
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink()) if pid else ""
    except FileNotFoundError:
        return ""


def _state(seen):
    return f"{seen.name} {seen.status}"
