"""
Has the image on the engine that a sidecar is to be made of, as the operator's pull policy says.

Fifty targets that want the same image pull it once. A pull takes its time, half an hour even, and none of them waits
for it: what each one has is looked after meanwhile. What cannot be pulled is tried ever less often, for all together.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup
from loguru import logger

from byfahrer.engine.errors import EngineError, PullError
from byfahrer.engine.interface import Engine
from byfahrer.plan import Pull
from byfahrer.reconcile.backoff import CAP, FIRST, delay

FRESH = 30.0
"""Seconds for which an image that was pulled is not asked for again, by `always`: many targets start together."""
LOOK = 1.0
"""Seconds for which an image that was there is taken to be there: fifty targets that start together ask once."""
KNOWN = 256
"""Images that are remembered; labels can name any number."""


class Had(enum.Enum):
    """How an image was had."""

    HERE = "here"
    CAME = "came"
    """It was pulled meanwhile, which may have taken minutes."""
    COMING = "coming"
    """It is being pulled, and nobody waits for that."""


@dataclass(slots=True)
class _Image:
    """What is known of one, as long as this program runs."""

    on_its_way: bool = False
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
        self._tasks: TaskGroup | None = None
        self._ended: Callable[[str], None] = _ignore

    def pull_in(self, tasks: TaskGroup, ended: Callable[[str], None]) -> None:
        """From now on pull beside whoever asks, in `tasks`; `ended` is called with the image, had or not."""
        self._tasks, self._ended = tasks, ended

    async def provide(self, name: str) -> Had:
        """Have this image on the engine, or on its way there. PullError."""
        image = self._of(name)
        if self._policy is not Pull.ALWAYS and self._clock() - image.seen_at < LOOK:
            return Had.HERE
        here = await self._engine.image_id(name) is not None
        if here:
            image.seen_at = self._clock()
        if self._policy is Pull.NEVER and not here:
            raise PullError(missing(name))
        if here and (self._policy is not Pull.ALWAYS or self._clock() - image.pulled_at <= FRESH):
            return Had.HERE
        if not image.on_its_way:
            if image.failures and self._clock() < image.not_before:
                raise PullError(image.why)
            image.on_its_way = True
            if self._tasks is None:
                await self._pull(name, image, here=here)
                return Had.CAME
            self._tasks.start_soon(self._pull_beside, name, image, here)
        return Had.COMING

    async def _pull_beside(self, name: str, image: _Image, here: bool) -> None:
        try:
            await self._pull(name, image, here=here)
        except PullError:
            pass  # whoever asks next is told
        except EngineError as error:
            logger.debug("The pull of image {} is tried again: {}", name, error)
            await anyio.sleep(FIRST)
        except Exception as error:  # noqa: BLE001 - no image is worth the service of all targets
            logger.opt(exception=error).error("Image {}: a bug of byfahrer", name)
            await anyio.sleep(CAP)
        self._ended(name)

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
            image.not_before = self._clock() + delay(image.failures, patience=0)
            logger.debug("Image {} could not be pulled, after {:.1f} s", name, self._clock() - begun)
            raise PullError(image.why) from error
        finally:
            image.on_its_way = False
        image.failures, image.why = 0, ""
        image.pulled_at = self._clock()
        logger.info("Pulled image {} in {:.1f} s", name, image.pulled_at - begun)

    def _of(self, name: str) -> _Image:
        if name not in self._known and len(self._known) >= KNOWN:
            idle = next((each for each, image in self._known.items() if not image.on_its_way), None)
            if idle is not None:
                del self._known[idle]
        return self._known.setdefault(name, _Image())


def _ignore(name: str) -> None:
    pass


def missing(name: str) -> str:
    """What people have to know of an image that is not there, and that we do not pull."""
    return f"image {name!r} is not on this engine: build or pull it (docker pull {name})"


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "", text)
