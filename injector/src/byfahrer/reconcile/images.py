"""
Has the image on the engine that a sidecar is to be made of, as the operator's pull policy says.

Fifty targets that want the same image pull it once: the first one pulls, the others wait, and none of them takes a
worker from a target that has what it needs. What cannot be pulled is tried ever less often, for all of them together.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
from loguru import logger

from byfahrer.engine.errors import PullError
from byfahrer.engine.interface import Engine
from byfahrer.plan import Pull
from byfahrer.reconcile.backoff import delay
from byfahrer.reconcile.queue import aside

FRESH = 30.0
"""Seconds for which an image that was pulled is not asked for again, by `always`: many targets start together."""
LOOK = 1.0
"""Seconds for which an image that was there is taken to be there: fifty targets that start together ask once."""
KNOWN = 256
"""Images that are remembered; labels can name any number."""


@dataclass(slots=True)
class _Image:
    """What is known of one, as long as this program runs."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    users: int = 0
    pulls: int = 0
    """That succeeded."""
    pulled_at: float = float("-inf")
    seen_at: float = float("-inf")
    """When it was last found on the engine."""
    failures: int = 0
    """In a row."""
    not_before: float = float("-inf")
    why: str = ""


class Images:
    """Images on an engine, and how they get there."""

    def __init__(self, engine: Engine, policy: Pull, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._policy = policy
        self._clock = clock
        self._known: dict[str, _Image] = {}

    async def provide(self, name: str) -> bool:
        """Have this image on the engine; whether it was pulled meanwhile, which may have taken minutes. PullError."""
        image = self._of(name)
        if self._policy is not Pull.ALWAYS and self._clock() - image.seen_at < LOOK:
            return False
        here = await self._engine.image_id(name) is not None
        if here:
            image.seen_at = self._clock()
        if self._policy is Pull.NEVER and not here:
            raise PullError(missing(name))
        if here and self._policy is not Pull.ALWAYS:
            return False
        image.users += 1
        before = image.pulls
        try:
            with aside():
                async with image.lock:
                    if image.failures and self._clock() < image.not_before:
                        raise PullError(image.why)
                    if self._clock() - image.pulled_at > FRESH:
                        await self._pull(name, image, here=here)
        finally:
            image.users -= 1
        return image.pulls != before

    async def _pull(self, name: str, image: _Image, *, here: bool) -> None:
        begun = self._clock()
        logger.log("DEBUG" if image.failures else "INFO", "Pull image {}", name)
        try:
            await self._engine.pull(name)
        except PullError as error:
            why = f"image {name!r} {'' if here else 'is not on this engine, and '}cannot be pulled: {error}"
            # The next try may have come from another port: that is nothing new to people.
            if _without_numbers(why) != _without_numbers(image.why):
                image.why = why
            image.failures += 1
            image.not_before = self._clock() + delay(image.failures)
            logger.debug("Image {} could not be pulled, after {:.1f} s", name, self._clock() - begun)
            raise PullError(image.why) from error
        image.failures, image.why = 0, ""
        image.pulls += 1
        image.pulled_at = self._clock()
        logger.info("Pulled image {} in {:.1f} s", name, image.pulled_at - begun)

    def _of(self, name: str) -> _Image:
        if name not in self._known and len(self._known) >= KNOWN:
            idle = next((each for each, image in self._known.items() if not image.users), None)
            if idle is not None:
                del self._known[idle]
        return self._known.setdefault(name, _Image())


def missing(name: str) -> str:
    """What people have to know of an image that is not there, and that we do not pull."""
    return f"image {name!r} is not on this engine: build or pull it (docker pull {name})"


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "", text)
