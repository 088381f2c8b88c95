"""A reconciler with an engine in memory, for tests of what it does about one target after the other."""

from __future__ import annotations

from byfahrer import settings
from byfahrer.reconcile import resync
from byfahrer.reconcile.reconciler import Reconciler
from lab.memory_engine import MemoryEngine

ASKS = {"byfahrer.proxy-image": "sslterm"}


class World:
    """An engine in memory, a reconciler, and a clock that only tests move."""

    def __init__(self, token=None, **policy):
        self.now = 0.0
        self.engine = MemoryEngine()
        self.seen = []
        self.reconciler = Reconciler(
            self.engine,
            settings.policy(**policy),
            token=token,
            seen=self.seen.append,
            clock=lambda: self.now,
            wall=lambda: 1e9,
        )

    async def look(self, key, **more):
        return await self.reconciler.reconcile(key, **more)

    async def look_like_the_queue(self, key):
        """One look; what it raises is told. Whether it was the last one needed."""
        try:
            return await self.look(key) is None
        except Exception as error:  # noqa: BLE001 - as the queue
            self.reconciler.failed(key, error, 1.0)
            return False

    async def settle(self):
        """A resync, and looks as the queue would have them, until nothing asks for another."""
        left = set(resync.targets(await self.engine.containers()))
        for _ in range(20):
            left = {key for key in sorted(left) if not await self.look_like_the_queue(key)}
            if not left:
                return
            self.now += 60
        raise AssertionError(f"never settled: {left}")
