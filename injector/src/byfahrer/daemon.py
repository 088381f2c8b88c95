"""
Composition root: an injector's life on anyio. Watch, look, act, and sign, until it is told to stop.

Stopping leaves every sidecar running: TLS must not drop because the injector is updated.
"""

from __future__ import annotations

import platform
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from loguru import logger

from byfahrer import __version__, admin, rundir
from byfahrer import settings as config
from byfahrer.authority import server, source
from byfahrer.authority.ledger import Ledger
from byfahrer.authority.service import Authority
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import Tokens
from byfahrer.engine.errors import EngineError
from byfahrer.engine.interface import Engine, EngineInfo
from byfahrer.model import Mount, Observed
from byfahrer.overview import Overview
from byfahrer.reconcile.backoff import delay
from byfahrer.reconcile.queue import GRACE, KeyedQueue
from byfahrer.reconcile.reconciler import Reconciler
from byfahrer.reconcile.stopping import Stopping
from byfahrer.reconcile.watch import RECONNECT_CAP, Watch
from byfahrer.serving.errors import InUseError
from byfahrer.spec import SOCKET
from byfahrer.swarm.directory import Directory
from byfahrer.swarm.identity import Identity
from byfahrer.swarm.peers import Client, Server

TAKE_OVER = 2.0
"""Seconds between looks whether the authority's socket is free: of two injectors on one engine, one serves it."""

LOOK = 1.0
"""Seconds in which those are told to stop that are stopped with us."""
OUTLAST = 12.0
"""Seconds for which they are waited for. deploy/stack.yaml has byfahrer killed later than that."""


async def run(engine: Engine, settings: config.Settings, directory: Directory | None = None) -> None:
    """Serve until SIGTERM or SIGINT. AuthorityError, if there can be no authority as it is configured."""
    # Before anything else: what is wrong with its files is the operator's to know at once.
    authority = built(engine, settings.authority) if settings.authority and settings.act else None
    endings: list[Callable[[], Awaitable[None]]] = []
    logger.info("Start byfahrer v{}, sidecars from {}", __version__, ", ".join(map(str, settings.policy.allow_images)))
    if not settings.act:
        logger.info("Watching only: what would be done is said, and nothing is changed")
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_serve, engine, settings, authority, endings, directory)
            async for received in signals:
                logger.info("Stopping on {}", received.name)
                for end in endings:
                    await end()
                tasks.cancel_scope.cancel()
                break
    logger.info("Stopped; every proxy container is left running (byfahrer eject --all removes them)")


def built(engine: Engine, settings: config.Authority) -> Authority:
    """The authority with what is in its state folder. AuthorityError."""
    folder = StateFolder(settings.state_dir)
    signs = source.issuers(settings, create=True)
    return Authority(engine, signs, Tokens.load(folder), Ledger(folder), lifetime=settings.leaf_lifetime)


async def _serve(
    engine: Engine,
    settings: config.Settings,
    authority: Authority | None,
    endings: list[Callable[[], Awaitable[None]]],
    directory: Directory | None,
) -> None:
    """Everything, until cancelled."""
    # Who only watches has to know too what sidecars of the one who acts are to have.
    mount = await _shared(engine, settings)
    policy = replace(settings.policy, authority=mount)
    stopping = Stopping(engine, policy)

    def seen(observed: Observed) -> None:
        stopping.seen(observed)
        if authority and mount:
            authority.seen(observed)

    if authority and mount:
        reconciler = Reconciler(
            engine,
            policy,
            token=authority.token,
            seen=seen,
            silent=authority.heartbeat.silent,
            ready=authority.ready,
        )
    else:
        reconciler = Reconciler(engine, policy, seen=seen, act=settings.act)
    queue = KeyedQueue(reconciler.reconcile, reconciler.failed, workers=settings.workers, on_finish=reconciler.hurry)
    endings.append(partial(_end, queue, stopping, drained=settings.peers is not None))

    async def on_ready(info: EngineInfo, found: list[str]) -> None:
        await queue.handled(found)
        overview.engine = info
        logger.info(
            "Connected to '{}' / v'{}' (API {}, swarm role {}) at {}: {} container(s) looked at, watching",
            info.name, info.version, info.api_version, info.role, engine.where, len(found),
        )  # fmt: skip

    watch = Watch(
        engine,
        queue,
        policy,
        tracks=reconciler.tracks,
        settled=reconciler.settled,
        on_ready=on_ready,
        on_stopping=stopping.signalled if settings.act else _keep_quiet,
        all_services=settings.peers is not None,
        resync_interval=settings.resync,
    )
    overview = Overview(
        where=engine.where,
        watch=watch,
        snapshot=reconciler.snapshot,
        depth=lambda: queue.depth,
        flags=settings.flags,
    )
    if authority:
        overview.word_of = authority.word_of
    async with anyio.create_task_group() as tasks:
        if authority and mount and settings.authority:
            tasks.start_soon(_certify, authority, settings.authority, policy.sidecar_user)
            tasks.start_soon(_miss, authority, settings.authority.run_dir / SOCKET, queue)
        if settings.peers and authority and directory:
            tasks.start_soon(_share, authority, directory, settings.peers, watch)
        if settings.admin:
            tasks.start_soon(admin.run, overview, settings.admin)
        tasks.start_soon(reconciler.pull, queue.put)
        tasks.start_soon(queue.run)
        tasks.start_soon(watch.run)


async def _end(queue: KeyedQueue, stopping: Stopping, *, drained: bool) -> None:
    """
    See to targets that end together with us: they have nobody else to reap their sidecars.

    On `compose down` they have ended before. `drained`: a node of a Swarm that is drained stops all its tasks at once,
    byfahrer's among them, and each takes its own time.
    """
    if drained:
        await anyio.sleep(LOOK)
        with anyio.move_on_after(OUTLAST):
            await stopping.ended()
    with anyio.move_on_after(GRACE):
        await queue.finish()


async def _keep_quiet(target_id: str, sent: str) -> None:
    """Who only watches tells no sidecar that its target stops."""


async def _certify(authority: Authority, settings: config.Authority, user: str) -> None:
    """Serve the authority's socket; another injector that does so already is waited for."""
    told = False
    while True:
        try:
            await server.run(authority, settings.run_dir / SOCKET, user)
        except InUseError as error:
            if not told:
                logger.warning("{}; waiting until it ends", error)
                told = True
        await anyio.sleep(TAKE_OVER)
        authority.ledger = Ledger(StateFolder(settings.state_dir))  # as the other one left it


def directory(settings: config.Settings) -> Directory | None:
    """What is known of services beside the engine, where there are others to ask. AuthorityError."""
    if settings.peers is None or settings.authority is None:
        return None
    folder = StateFolder(settings.authority.state_dir)
    folder.prepare()
    return Directory(folder, [label for label, _ in settings.policy.only_labels])


async def _share(authority: Authority, known: Directory, peers: tuple[str, int], watch: Watch) -> None:
    """Tell other nodes of services, and be told by them."""
    host, port = peers
    identity = Identity(authority.issuer, platform.node())
    client = Client(identity, known, host, port, watch.list_soon)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        tasks.start_soon(_tell, Server(identity, known), port)


async def _tell(others: Server, port: int) -> None:
    told = ""
    while True:
        try:
            await others.serve(port)
        except OSError as error:
            text = f"port {port} of --peers: {error.strerror or error}"
            if text != told:
                logger.error("Other nodes cannot be told of services: {}", text)
                told = text
        await anyio.sleep(TAKE_OVER)


async def _miss(authority: Authority, socket: Path, queue: KeyedQueue) -> None:
    """Have targets looked at whose sidecar reports no longer."""

    async def answers() -> bool:
        return await server.answers(socket)

    await authority.heartbeat.watch(answers, queue.put)


async def _shared(engine: Engine, settings: config.Settings) -> Mount | None:
    """The folder with the authority's socket, for sidecars. In a container the engine is asked, and waited for."""
    own_id, failures, told = settings.policy.own_id, 0, ""
    if settings.authority is None:
        return None
    while True:
        try:
            if own_id:
                await engine.connect()
            mount = await rundir.shared(engine, settings.authority.run_dir, own_id)
            if not await rundir.lasts(engine, settings.authority.state_dir, own_id):
                logger.warning(
                    "The authority's root ends with this container: give it a volume (-v byfahrer:{})",
                    settings.authority.state_dir,
                )
            if not await rundir.lasts(engine, settings.authority.run_dir, own_id):
                logger.warning(
                    "Every sidecar is replaced when byfahrer is made anew: give it a volume (-v byfahrer-run:{})",
                    settings.authority.run_dir,
                )
        except rundir.NotSharedError as error:
            logger.warning("Sidecars sign their certificates themselves: {}", error)
            return None
        except EngineError as error:
            text = str(error)
            if text != told:
                logger.error("{}; trying again", text[0].upper() + text[1:])
                told = text
            failures += 1
            await anyio.sleep(delay(failures, first=0.25, cap=RECONNECT_CAP))
        else:
            return mount
