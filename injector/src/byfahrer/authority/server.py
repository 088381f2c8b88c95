"""The authority's unix socket: the paths, and what people hear of those who are refused."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
from loguru import logger

from byfahrer.authority.report import Report, ReportError
from byfahrer.authority.service import Authority, Refused
from byfahrer.serving.connections import TELL_EVERY, Connections, refusal
from byfahrer.serving.http import Answer, BadRequest, Request
from byfahrer.serving.limits import Seldom
from byfahrer.serving.listen import listening

SOCKET: Final = "authority.sock"
RUN_DIR: Final = Path("/run/byfahrer")

ANSWERS_WITHIN: Final = 2.0
"""Seconds for an answer to ourselves."""

LOOK: Final = 2.0
"""Seconds between looks whether the socket is still where sidecars look for it."""

_PATHS: Final = {"/v1/certificate": "POST", "/v1/authorities": "GET", "/v1/status": "POST"}


class Server:
    """Answers on one listening socket."""

    def __init__(self, authority: Authority, listener: socket.socket) -> None:
        self._authority = authority
        self._connections = Connections(listener, "The authority's socket", self.answer, self._refused)
        self._told = Seldom(TELL_EVERY)

    async def serve(self) -> None:
        """Until cancelled."""
        await self._connections.serve()

    async def answer(self, request: Request) -> Answer:
        """What there is to say to a request."""
        allowed = _PATHS.get(request.path)
        if allowed is None:
            return refusal(404, f"there are {', '.join(_PATHS)}")
        if request.method != allowed:
            return Answer(status=405, content={"error": f"expected {allowed}"}, allow=allowed)
        try:
            if not request.token:
                raise Refused(401, "expected Authorization: Bearer TOKEN")
            if request.path == "/v1/certificate":
                content = await self._authority.certificate(request.token, request.body)
            elif request.path == "/v1/status":
                content = await self._authority.status(request.token, Report.read(request.body))
            else:
                content = await self._authority.authorities(request.token)
        except ReportError as error:
            return refusal(400, str(error))
        except Refused as error:
            self._tell(error.who, error.status, str(error))
            return refusal(error.status, str(error), error.retry_after)
        return Answer(status=200, content=content)

    def _refused(self, error: BadRequest) -> None:
        self._tell("", error.status, str(error))

    def _tell(self, who: str, status: int, text: str) -> None:
        """Once in a while, whom we refuse and why."""
        left_out = self._told.again(f"{status} {who}")
        if left_out is not None:
            more = f" ({left_out} more like it since then)" if left_out else ""
            logger.warning("Refused {}: {} {}{}", f"the sidecar of '{who}'" if who else "somebody", status, text, more)


async def answers(path: Path) -> bool:
    """Whether this very process answers at `path`, as sidecars would find it."""
    answered = False
    with suppress(OSError), anyio.move_on_after(ANSWERS_WITHIN), socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.connect(os.fspath(path))
        (pid,) = struct.unpack("=i8x", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        client.send(b"GET / HTTP/1.1\r\nHost: authority\r\nConnection: close\r\n\r\n")
        await anyio.wait_readable(client)
        answered = pid == os.getpid() and client.recv(9) == b"HTTP/1.1 "
    return answered


async def run(authority: Authority, path: Path, user: str) -> None:
    """
    Answer at `path`, for sidecars that run as `user`, until cancelled, or until it is not there any more.

    AuthorityError, if the socket cannot be.
    """
    with listening(path, user) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(authority.run)
            tasks.start_soon(Server(authority, listener).serve)
            await _lost(path)
            tasks.cancel_scope.cancel()


async def _lost(path: Path) -> None:
    """Return when what is at `path` now has gone: somebody emptied the folder, or put another socket there."""
    ours = _inode(path)
    while True:
        await anyio.sleep(LOOK)
        if _inode(path) != ours:
            break
    logger.warning("The authority's socket {} has gone: making it anew", path)


def _inode(path: Path) -> int:
    """Of what is there; 0 for nothing, or nothing that can be seen."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0
