"""
What happens in the world in memory: each method `do_…` is a step (`lab.promise`), carried out where it makes sense.

Processes are a part of it: a sidecar of a broken image starts well and ends at once, and one that is to end may drain.
"""

from __future__ import annotations

from functools import partial

import anyio

from byfahrer.engine.errors import ConflictError, NotFoundError, RejectedError, UnreachableError
from byfahrer.engine.interface import Event
from byfahrer.model import Status
from lab.promise import IMAGE, KINDS, SERVICE, SERVICES, World

ERRORS = {
    "500": RejectedError(500, "x"),
    "409": ConflictError("x"),
    "404": NotFoundError("x"),
    "away": UnreachableError("x"),
}


class Happenings(World):
    """The steps in memory. Whoever mixes it in has the engine, its pace, and the injectors."""

    # What happens to targets.

    def do_run(self, step):
        name = f"www{step.who}"
        if self._holder(name) is None:
            kind = KINDS[step.what or "asks"]
            target_id = self.engine.run(name, dict(kind.labels), network_mode=kind.network)
            self.places[step.who], self.kinds[target_id] = target_id, step.what or "asks"

    def do_recreate(self, step):
        self.do_remove(step)
        self.do_run(step)

    def do_remove(self, step):
        if key := self._target(step):
            self.engine.delete(key)

    def do_stop(self, step, code=0):
        if key := self._target(step, Status.RUNNING, Status.PAUSED):
            self.engine.down(key, code=code)
        elif key := self._target(step, Status.RESTARTING):
            self.engine._set(key, status=Status.EXITED)

    def do_kill(self, step):
        self.do_stop(step, 137)

    def do_start(self, step):
        if key := self._target(step, Status.EXITED):
            self.engine.up(key)

    def do_restart(self, step):
        """At once, or slowly: then there is a moment without a process."""
        if key := self._target(step, Status.RUNNING, Status.PAUSED):
            self.engine.down(key)
            self._later(float(step.what or 0), self._up, key, Status.EXITED)

    def do_crash(self, step):
        """With a restart policy: so many times in a row, ever more slowly."""
        if key := self._target(step, Status.RUNNING):
            self._crash(key, int(step.what or 1), 0.1)

    def _crash(self, key, times, wait):
        if key in self.engine.all and self.engine.all[key].status is Status.RUNNING:
            self.engine.loop(key)
            self._later(wait, self._come_back, key, times - 1, wait * 2)

    def _come_back(self, key, times, wait):
        self._up(key, Status.RESTARTING)
        if times:
            self._later(0.05, self._crash, key, times, wait)

    def do_pause(self, step):
        if key := self._target(step, Status.RUNNING):
            self.engine.pause(key)

    def do_unpause(self, step):
        if key := self._target(step, Status.PAUSED):
            self.engine.unpause(key)

    def do_rename(self, step):
        """To a name that nobody has, or that of another place."""
        name = step.what or f"old{step.who}"
        if (key := self._target(step)) and self._holder(name) is None:
            self.engine.call(key, name)

    def do_flap(self, step):
        if key := self._target(step, Status.RUNNING):
            self.engine.flap(key)

    def do_hand(self, step):
        """`byfahrer inject`, which does one thing and ends."""
        if key := self._target(step):
            self.by_hand.add(key)
            self.inject(key)

    # What happens to sidecars.

    def do_sidecar(self, step):
        mine = sorted(self.engine.sidecars(self.places.get(step.who)), key=lambda each: each.id)
        mine = [each for each in mine if self.seen(each).owner]
        if not mine:
            return
        key, status = mine[-1].id, mine[-1].status
        if step.what == "remove":
            self.engine.delete(key)
        elif step.what == "rename" and self._holder(f"mine{step.who}") is None:
            self.engine.call(key, f"mine{step.who}")
        elif step.what == "unpause" and status is Status.PAUSED:
            self.engine.unpause(key)
        elif status is not Status.RUNNING:
            return
        elif step.what in ("kill", "stop"):
            self.engine.down(key, code=137 if step.what == "kill" else 0)
        elif step.what == "pause":
            self.engine.pause(key)
        elif step.what == "unhealthy":
            self.engine.sicken(key)

    def _began(self, key):
        """A sidecar of a broken image starts well, and ends at once."""
        container = self.engine.all[key]
        if self._broken_image and self.seen(container).owner is not None:
            self._later(0.1, self._end, key, container.started_at)

    def _told(self, key, signal):
        """A sidecar that is to end finishes what it is at: soon, in a while, or not in its time."""
        lasts = self.pace.drain()
        if signal == "SIGTERM" and lasts is not None:
            self._later(lasts, self._end, key, self.engine.all[key].started_at, 0)

    def _end(self, key, started_at, code=1):
        container = self.engine.all.get(key)
        if container is not None and container.status is Status.RUNNING and container.started_at == started_at:
            self.engine.down(key, code=code)

    # What happens beside them.

    def do_stranger(self, step):
        """Somebody else's container takes a sidecar's name, or says that it is one."""
        name, labels = f"www{step.who}-proxy", {}
        if step.what == "forged" and (key := self._target(step)):
            name = f"forged{step.who}"
            labels = {"byfahrer.target": key, "byfahrer.manual": "true", "byfahrer.spec": "x"}
        if self._holder(name) is None:
            key = self.engine.run(name, labels)
            made = self.engine.all[key]
            self.strangers[key] = f"{made.name} {made.status} {made.started_at}"

    def do_farewell(self, step):
        holder = self._holder(f"www{step.who}-proxy")
        if holder is not None and holder.id in self.strangers:
            del self.strangers[holder.id]
            self.engine.delete(holder.id)

    def do_image(self, step):
        if step.what == "gone":
            self.engine.images.pop(IMAGE, None)
        elif step.what in ("broken", "mended"):
            self._broken_image = step.what == "broken"
        else:
            if step.what == "updated":
                self._image_id += "1"
            self.engine.images[IMAGE] = self._image_id

    def do_service(self, step):
        self.service = step.what
        self.engine.annotations[SERVICE] = dict(SERVICES[step.what][0])
        if not self.engine.deaf:
            for stream in self.engine.streams:
                self.engine.deliver(stream, Event(kind="service", action="update", id=SERVICE))

    def do_engine(self, step):
        engine = self.engine
        if step.what in ("away", "back"):
            engine.away = step.what == "away"
            engine.end_streams()
        elif step.what == "ends":
            engine.end_streams()
        elif step.what in ("deaf", "hears"):
            engine.deaf = step.what == "deaf"
        elif step.what in ("slow", "quick"):
            self.pace.slow = step.what == "slow"
        elif step.what == "hangs":
            self._awake = anyio.Event()
        elif step.what == "wakes":
            self._awake.set()

    def do_fail(self, step):
        """The next call of a method fails, or its answer gets lost: `create 409`, `create lost`."""
        method, how = step.what.split()
        if how == "lost":
            self.lost[method] += 1
        else:
            self.engine.broken.setdefault(method, []).append(ERRORS[how])

    def do_injector(self, step):
        if step.what in ("kill", "stop", "upgrade") and self.set_back:
            return
        if step.what == "kill" and self.daemons:
            self.daemons.pop(0).kill()
        elif step.what == "stop" and self.daemons:
            self.tasks.start_soon(self.daemons.pop(0).stop)
        elif (step.what == "start" and not self.daemons) or (step.what == "second" and len(self.daemons) == 1):
            self.start_injector()
        elif step.what == "upgrade":
            while self.daemons:
                self.daemons.pop().kill()
            self.start_injector(user="64444:64444")

    def do_clock(self, step):
        """
        It is set back only while an injector runs and reaches the engine, and none ends after that.

        A target that restarts while nobody looks, by a clock that was set back, has started before its sidecar for
        whoever looks first: nothing that the engine tells shows that it has not.
        """
        if int(step.what) > 0 or (self.daemons and not self.engine.away):
            self.jumped += int(step.what)
            self.set_back |= int(step.what) < 0

    # How.

    def _later(self, seconds, function, *args):
        self._under_way += 1
        self.tasks.start_soon(self._wait, seconds, partial(function, *args))

    async def _wait(self, seconds, act):
        await anyio.sleep(seconds)
        self._under_way -= 1
        act()

    def _up(self, key, status):
        if key in self.engine.all and self.engine.all[key].status is status:
            self.engine.up(key)

    def _target(self, step, *statuses):
        """The ID of the container in a place, if it is there (and in one of these states)."""
        found = self.engine.all.get(self.places.get(step.who, ""))
        return found.id if found is not None and (not statuses or found.status in statuses) else None

    def _holder(self, name):
        return next((each for each in self.engine.all.values() if each.name == name), None)
