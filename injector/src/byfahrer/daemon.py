"""
Composition root: an injector's life on anyio. Watch, look, act, until it is told to stop.

Stopping leaves every sidecar running: TLS must not drop because the injector is updated.
"""

from __future__ import annotations

import signal

import anyio
from loguru import logger

from byfahrer import __version__
from byfahrer.engine.interface import Engine, EngineInfo
from byfahrer.reconcile.queue import GRACE, KeyedQueue
from byfahrer.reconcile.reconciler import Reconciler
from byfahrer.reconcile.watch import Watch
from byfahrer.settings import Settings


async def run(engine: Engine, settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    reconciler = Reconciler(engine, settings.policy)
    queue = KeyedQueue(reconciler.reconcile, reconciler.failed, workers=settings.workers)

    async def on_ready(info: EngineInfo, found: list[str]) -> None:
        await queue.handled(found)
        logger.info(
            "Connected to '{}' / v'{}' (API {}, swarm role {}) at {}: {} container(s) looked at, watching",
            info.name, info.version, info.api_version, info.role, engine.where, len(found),
        )  # fmt: skip

    watch = Watch(engine, queue, reconciler.tracks, on_ready=on_ready, resync_interval=settings.resync)
    logger.info("Start byfahrer v{}, sidecars from {}", __version__, ", ".join(map(str, settings.policy.allow_images)))
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.run)
            tasks.start_soon(watch.run)
            async for received in signals:
                logger.info("Stopping on {}", received.name)
                # Targets that ended together with us, as on `compose down`, have nobody else to reap their sidecars.
                with anyio.move_on_after(GRACE):
                    await queue.finish()
                tasks.cancel_scope.cancel()
                break
    logger.info("Stopped; every proxy container is left running (byfahrer eject --all removes them)")
