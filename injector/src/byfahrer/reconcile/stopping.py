"""
Tells a sidecar that its target is about to stop: the one thing that is done on an event's word, and at once.

The engine says so by `kill`, with the signal that it just sent. From then on the target ends in its own time, and its
sidecar with it; a sidecar that knows lets its clients go while they still get answers. How to tell it is for its image
to say, by the label `sslterm.drain-signal`; others are told nothing. A signal that comes too late, or twice, is none.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Final

import anyio
from loguru import logger

from byfahrer import labels
from byfahrer.engine.errors import ConflictError, EngineError, NotFoundError
from byfahrer.engine.interface import Engine
from byfahrer.model import Observed, Status
from byfahrer.plan import Policy, own_sidecars
from byfahrer.reconcile.observe import observe

DRAIN_SIGNAL: Final = "sslterm.drain-signal"
_RTMIN, _RTMAX = 34, 64
"""The engine's, whatever our own C library keeps for itself."""
_NUMBER = re.compile(r"[0-9]{1,3}")
_REAL_TIME = re.compile(r"RT(MIN|MAX)(?:([+-])([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True)
class _Known:
    """A living target with sidecars."""

    stop_signal: int
    sidecars: tuple[tuple[str, str], ...]
    """Those that want to be told: their IDs, and the signal for each."""


class Stopping:
    """Passes on that targets stop. `seen` is to be called with whatever is observed."""

    def __init__(self, engine: Engine, policy: Policy) -> None:
        self._engine = engine
        self._policy = policy
        self._known: dict[str, _Known] = {}
        self._ending: set[str] = set()
        """Targets with sidecars that were told to stop, and were not seen dead yet."""
        self._fewer = anyio.Event()

    def seen(self, observed: Observed) -> None:
        """Keep whom to tell when this target stops, or forget it."""
        target = observed.target
        running = [each for each in own_sidecars(observed, self._policy) if each.status is Status.RUNNING]
        stop_signal = number(target.stop_signal or "SIGTERM") if target is not None and target.alive else None
        if stop_signal is None or not running:
            self._known.pop(observed.target_id, None)
            self._ending.discard(observed.target_id)
            self._fewer.set()
            return
        wants = ((sidecar.id, sidecar.labels.get(DRAIN_SIGNAL, "")) for sidecar in running)
        self._known[observed.target_id] = _Known(
            stop_signal, tuple(each for each in wants if each[1] in labels.SIGNALS)
        )

    async def ended(self) -> None:
        """Until no target is left that was told to stop and lives."""
        while self._ending:
            self._fewer = anyio.Event()
            await self._fewer.wait()

    async def signalled(self, target_id: str, sent: str) -> None:
        """A target got a signal. If that is how it is stopped, tell its sidecars."""
        try:
            if not await self._tell(target_id, sent):
                # Not as it was seen last: a new sidecar, say, whose start was not looked at yet.
                self.seen(await observe(self._engine, target_id))
                await self._tell(target_id, sent)
        except EngineError as error:
            logger.debug("The sidecar of {} is not told that it stops: {}", target_id[:12], error)

    async def _tell(self, target_id: str, sent: str) -> bool:
        """Whether all whom this concerns were there."""
        known = self._known.get(target_id)
        if known is None:
            return False
        if number(sent) != known.stop_signal:
            return True
        self._ending.add(target_id)
        there = True
        for sidecar_id, wanted in known.sidecars:
            try:
                await self._engine.kill(sidecar_id, wanted)
                logger.debug("Container {} stops: its sidecar {} knows", target_id[:12], sidecar_id[:12])
            except (NotFoundError, ConflictError):
                there = False
        return there


def number(name: str) -> int | None:
    """A signal as people write it (`SIGQUIT`, `quit`, `3`, `SIGRTMIN+3`) as a number; None if it is none."""
    name = name.strip().upper().removeprefix("SIG")
    if _NUMBER.fullmatch(name):
        return int(name)
    found = _REAL_TIME.fullmatch(name)
    if found:
        offset = int(found[3] or 0) * (-1 if found[2] == "-" else 1)
        return (_RTMIN if found[1] == "MIN" else _RTMAX) + offset
    value = getattr(signal, f"SIG{name}", None)
    return int(value) if isinstance(value, signal.Signals) else None
