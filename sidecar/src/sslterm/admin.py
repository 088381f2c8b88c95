"""
Status and metrics for whoever may open a socket file: `GET /status`, `/metrics` and `/ready`.

A unix socket with mode 0600, because everything on TCP, loopback included, is the target's too. Owns the socket and
the little HTTP that is spoken there, one request per connection; what is answered is the business of whoever gives it
its pages. It runs on the control thread, so what one client can take of it is bounded: bytes, seconds, and how many.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from sslterm.waiting import receive, send

if TYPE_CHECKING:
    from sslterm.settings import UnixAddress

_BACKLOG: Final = 16
_AT_A_TIME: Final = 8
_LARGEST_HEAD: Final = 8 * 1024
_PATIENCE: Final = 5.0
"""Seconds for a whole conversation."""
_LOOK_AGAIN: Final = 0.5
"""Seconds until the next try where no descriptor was left for a connection."""

_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Head Too Large",
                   500: "Internal Server Error", 503: "Service Unavailable"}  # fmt: skip


class Page(NamedTuple):
    """An answer."""

    status: int
    kind: str
    """Its Content-Type."""
    text: str


Pages = Mapping[str, Callable[[], Page]]
"""By path."""


class Admin:
    """Listens from the start: making it raises OSError if it cannot, `str()` of whose `strerror` is for people."""

    def __init__(self, address: UnixAddress, pages: Pages, *, take_over: bool = False) -> None:
        """`take_over`: another process that listens there is to be replaced, and is no error."""
        self._path = Path(address.path)
        self._pages = pages
        self._socket = _listen(self._path, take_over=take_over)
        self._file = _identity(self._path)
        self._places = anyio.Semaphore(_AT_A_TIME)

    async def serve(self) -> None:
        """Until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._places.acquire()
                tasks.start_soon(self._converse, await self._accept())

    async def _accept(self) -> socket.socket:
        while True:
            try:
                return self._socket.accept()[0]
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except OSError:  # no descriptor left, mostly
                await anyio.sleep(_LOOK_AGAIN)

    async def _converse(self, client: socket.socket) -> None:
        try:
            with client, anyio.move_on_after(_PATIENCE), suppress(OSError):
                client.setblocking(False)
                page, body = await self._answer(client)
                head = (
                    f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\nContent-Type: {page.kind}\r\n"
                    f"Content-Length: {len(page.text.encode())}\r\nConnection: close\r\n\r\n"
                )
                await send(client, head.encode() + (page.text.encode() if body else b""))
                client.shutdown(socket.SHUT_WR)
        finally:
            self._places.release()

    async def _answer(self, client: socket.socket) -> tuple[Page, bool]:
        """What to answer, and whether with its body."""
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > _LARGEST_HEAD:
                return _error(431, f"at most {_LARGEST_HEAD} bytes"), True
            more = await receive(client, _LARGEST_HEAD)
            if not more:
                return _error(400, "the request broke off"), True
            head += more
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _error(400, "this is no HTTP/1.1"), True
        make = self._pages.get(words[1].partition(b"?")[0].decode("latin-1"))
        if make is None:
            return _error(404, f"there are {', '.join(self._pages)}"), True
        if words[0] not in (b"GET", b"HEAD"):
            return _error(405, "only GET"), True
        return make(), words[0] == b"GET"

    def close(self) -> None:
        """Listen no more, and leave no file, unless it is another process's by now."""
        with suppress(OSError):
            if _identity(self._path) == self._file:
                self._path.unlink()
        self._socket.close()


def _error(status: int, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", f"{text}\n")


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def _listen(path: Path, *, take_over: bool) -> socket.socket:
    """
    A listening socket at `path`, in place of one whose process ended without removing it.

    It is made beside its place and then renamed, so that there is no moment without one where another is replaced.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "there is something that is not a socket")
        if not take_over and _is_alive(path):
            raise OSError(errno.EADDRINUSE, "another process listens there")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    made = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(made.fileno(), 0o600)  # before there is a file: it is made with this mode
        with suppress(FileNotFoundError):
            beside.unlink()
        made.bind(os.fspath(beside))
        made.listen(_BACKLOG)
        made.setblocking(False)
        beside.rename(path)
    except BaseException as error:
        made.close()
        with suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError) and error.strerror is None:  # Python's own: the path is too long
            raise OSError(errno.ENAMETOOLONG, str(error)) from None
        raise
    return made


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
    return True
