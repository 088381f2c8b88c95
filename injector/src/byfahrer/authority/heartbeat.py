"""
Which sidecars hang: they told how they are, now and then, and do so no longer. No I/O but in `watch`.

Who has spoken to this process is expected to speak again, and one of sslterm's own image to speak at all; but of those
from which no word came even after a restart nobody can tell. What could be our own fault is held against nobody: after
a time in which we did not run, or while our socket gives no answer, all begin anew. The engine has to say that one
runs: who is paused is silent, too.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from byfahrer import labels
from byfahrer.model import Container, Status

EVERY: Final = 5.0
"""Seconds between two looks."""
MISSED: Final = 3
"""Times that a sidecar may fail to speak."""
STALLED: Final = 3 * EVERY
"""Seconds between two looks from which on we did not run ourselves: stopped, or the machine asleep."""
UNANSWERED: Final = 100.0
"""Seconds until a sidecar speaks again that got no answer, at most: it waits for one, and then a minute and more."""
FIRST: Final = 120.0
"""Seconds until the first word of one that is met: a certificate takes one, or many where fifty start at once."""


@dataclass(slots=True)
class _Beat:
    target_id: str
    began: int = 0
    """When the engine says that the process did; 0 before it was asked."""
    at: float = 0.0
    within: float = UNANSWERED
    """Seconds after which it is to speak again."""
    overdue: int = 0
    """Looks in a row that found it late."""
    spoke: bool = True
    """Whether it has spoken at all."""


class Heartbeat:
    """The last word of each sidecar; what they say is none of its business."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: dict[str, _Beat] = {}
        self._mute: dict[str, str] = {}
        """Sidecars that were said to hang without ever having spoken, and whose they are."""
        self._looked = clock()

    def came(self, sidecar_id: str, target_id: str) -> None:
        """A sidecar speaks, and has no answer yet."""
        beat = self._beats.setdefault(sidecar_id, _Beat(target_id))
        beat.at, beat.within, beat.overdue, beat.spoke = self._clock(), UNANSWERED, 0, True
        self._mute.pop(sidecar_id, None)

    def answered(self, sidecar_id: str, again_in: float) -> None:
        """It was told when to speak again."""
        beat = self._beats.get(sidecar_id)
        if beat is not None:
            beat.within = again_in

    def met(self, target_id: str, sidecars: Sequence[Container]) -> None:
        """What the engine says of a target's sidecars: one that may not run owes no word, nor does a new process."""
        runs = {each.id: each.started_at for each in sidecars if each.status is Status.RUNNING}
        for sidecar_id, beat in list(self._beats.items()):
            if beat.target_id != target_id:
                continue
            began = runs.get(sidecar_id)
            if began is None or beat.began not in (0, began):
                del self._beats[sidecar_id]
            else:
                beat.began = began
        for sidecar_id in [key for key, owner in self._mute.items() if owner == target_id and key not in runs]:
            del self._mute[sidecar_id]
        for each in sidecars:
            # That it can speak is said by a label of its image, that it is to by its environment.
            speaks = labels.HAND_OVER in each.labels and bool(each.env.get("SSLTERM_AUTHORITY"))
            if each.id in runs and speaks and each.id not in self._beats and each.id not in self._mute:
                within = FIRST / MISSED
                self._beats[each.id] = _Beat(target_id, each.started_at, self._clock(), within, spoke=False)

    def knows(self, sidecar_id: str) -> bool:
        """Whether this process of it has spoken."""
        return sidecar_id in self._beats and self._beats[sidecar_id].spoke

    def silent(self, sidecar: Container) -> bool:
        """Whether a sidecar, which was `met`, hangs: two looks in a row have found it late."""
        beat = self._beats.get(sidecar.id)
        if beat is None or beat.overdue <= 1:
            return False
        if not beat.spoke:
            self._mute[sidecar.id] = beat.target_id
        return True

    def forget(self) -> None:
        """Nobody is late: we could not be spoken to."""
        self._beats.clear()

    def look(self) -> bool:
        """Look who is late; whether anybody is."""
        now = self._clock()
        if now - self._looked > STALLED:
            self.forget()
        self._looked = now
        for beat in self._beats.values():
            beat.overdue = beat.overdue + 1 if now - beat.at > MISSED * beat.within else 0
        return any(beat.overdue for beat in self._beats.values())

    async def watch(self, answers: Callable[[], Awaitable[bool]], wake: Callable[[str], None]) -> None:
        """Look until cancelled. `answers`: whether our own socket does; `wake` is called with whose sidecar hangs."""
        while True:
            await anyio.sleep(EVERY)
            if not self.look():
                continue
            if not await answers():
                self.forget()
            for beat in self._beats.values():
                if beat.overdue == 2:
                    wake(beat.target_id)
