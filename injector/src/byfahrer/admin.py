"""
The daemon's own socket: `GET /status`, `/metrics` and `/ready`, for who may open a file of mode 0600.

It is never in the folder that sidecars get. Whether it can be bound is no reason not to serve: that is told once, and
where another byfahrer has it, it is taken over when that one ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from loguru import logger

from byfahrer.overview import Overview
from byfahrer.serving.connections import Connections, refusal
from byfahrer.serving.errors import InUseError, SocketError
from byfahrer.serving.http import Answer, BadRequest, Request
from byfahrer.serving.listen import listening

LOOK_AGAIN: Final = 5.0
"""Seconds between looks whether the socket is free."""
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


class Admin:
    """What is answered."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._pages: Mapping[str, Callable[[], Answer]] = {
            "/status": lambda: Answer(status=200, content=overview.status()),
            "/metrics": lambda: Answer(status=200, text=overview.metrics(), kind=_PROMETHEUS),
            "/ready": self._ready,
        }

    async def answer(self, request: Request) -> Answer:
        """What there is to say to a request."""
        page = self._pages.get(request.path.partition("?")[0])
        if page is None:
            return refusal(404, f"there are {', '.join(self._pages)}")
        if request.method not in ("GET", "HEAD"):
            return Answer(status=405, content={"error": "expected GET"}, allow="GET, HEAD")
        return page()

    def _ready(self) -> Answer:
        fault = self._overview.fault
        return Answer(status=503 if fault else 200, text=f"{fault or 'ready'}\n")


async def run(overview: Overview, path: Path) -> None:
    """Answer at `path` until cancelled, or until it is clear that this cannot be."""
    admin, told = Admin(overview), False
    with suppress(OSError):  # what is wrong with it, binding tells
        path.parent.mkdir(0o700, parents=True)
    while True:
        try:
            with listening(path, str(os.geteuid())) as listener:
                await Connections(listener, "The admin socket", admin.answer, _ignore).serve()
        except InUseError as error:
            if not told:
                logger.warning("No status and metrics: {}; waiting until it ends", error)
                told = True
        except SocketError as error:
            logger.warning("No status and metrics (--admin-addr): {}", error)
            return
        await anyio.sleep(LOOK_AGAIN)


def _ignore(error: BadRequest) -> None:
    """Nobody has to hear of what is no request: its sender is told."""
