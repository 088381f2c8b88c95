"""One injector on the engine in memory, put together as `byfahrer.daemon` does it."""

from __future__ import annotations

import anyio

from byfahrer.engine.errors import EngineError
from byfahrer.reconcile.queue import GRACE, KeyedQueue
from byfahrer.reconcile.reconciler import PassingError, Reconciler, UnmetError
from byfahrer.reconcile.stopping import Stopping
from byfahrer.reconcile.watch import Watch
from lab.wire import Wire


class Daemon:
    """Until it is told to stop, or dies."""

    def __init__(self, world, policy):
        self.world = world
        self.wire = Wire(world)
        self.scope = anyio.CancelScope()
        stopping = Stopping(self.wire, policy)
        self.reconciler = Reconciler(
            self.wire, policy, seen=stopping.seen, clock=anyio.current_time, wall=lambda: world.now() / 1e9
        )
        self.queue = KeyedQueue(
            self.reconciler.reconcile, self.failed, clock=anyio.current_time, on_finish=self.reconciler.hurry
        )
        self.watch = Watch(
            self.wire, self.queue, policy, tracks=self.reconciler.tracks, settled=self.reconciler.settled,
            on_ready=self.ready, on_stopping=stopping.signalled,
        )  # fmt: skip

    async def ready(self, info, found):
        await self.queue.handled(found)

    def failed(self, key, error, wait):
        self.reconciler.failed(key, error, wait)
        if not isinstance(error, (UnmetError, PassingError, EngineError)):
            self.world.crimes.append(f"a bug of byfahrer: {error!r}")
        self.world.note(f"  {key.lstrip('0')} failed, again in {wait:.1f} s: {error}")

    async def run(self):
        with self.scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.reconciler.pull, self.queue.put)
                tasks.start_soon(self.queue.run)
                tasks.start_soon(self.watch.run)

    async def stop(self):
        with anyio.move_on_after(GRACE):
            await self.queue.finish()
        self.scope.cancel()

    def kill(self):
        self.wire.dead = True
        self.scope.cancel()
