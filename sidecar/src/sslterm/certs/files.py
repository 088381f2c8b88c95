"""
A certificate from two PEM files, authorities from another, and the watch for their replacement.

Watching is asking: once a second, what do the two paths lead to? That works on every file system, in every container,
and for all ways of replacing: written over, renamed into place, or a symlink further up switched (Kubernetes and
Docker secrets, certbot). The two files are two steps for whoever replaces them, so a change is taken up only after a
look that found no further change: a pair replaced within that second is read once, whole.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

import anyio

from sslterm.certs.bundle import Bundle, Credentials, Rejected

if TYPE_CHECKING:
    from pathlib import Path

_INTERVAL: Final = 1.0
_LARGEST: Final = 1024 * 1024
"""A chain of ten certificates is 20 KB; whatever is over a megabyte is not one."""

Stamp = tuple[int, int, int, int] | None
"""What shows that a file is another, or was written; None where there is none."""


class _Watched:
    """Some files, and what was seen of them when they were last read."""

    def __init__(self, *paths: Path, interval: float) -> None:
        self._paths = paths
        self._interval = interval
        self._read_at: tuple[Stamp, ...] = ()

    async def changed(self) -> None:
        """Return when the files differ from those last read, and stopped changing."""
        previous = self._read_at
        while True:
            await anyio.sleep(self._interval)
            stamp = self._stamp()
            if stamp == previous and stamp != self._read_at:
                return
            previous = stamp

    def _read(self) -> list[bytes]:
        self._read_at = self._stamp()  # taken first: what changes during the reading is seen as a change later
        return [content(path) for path in self._paths]

    def _stamp(self) -> tuple[Stamp, ...]:
        return tuple(stamp(path) for path in self._paths)


class FilePair(_Watched):
    """The source behind `--cert` and `--key`."""

    def __init__(self, cert: Path, key: Path, interval: float = _INTERVAL) -> None:
        super().__init__(cert, key, interval=interval)

    async def obtain(self) -> Credentials:
        """Both files as they are now. Raises `Rejected`."""
        chain, key = self._read()
        return Credentials((Bundle(chain, key, *map(str, self._paths)),))


class AuthoritiesFile(_Watched):
    """The authorities behind `--client-ca`."""

    def __init__(self, path: Path, interval: float = _INTERVAL) -> None:
        super().__init__(path, interval=interval)
        self.source = str(path)

    async def obtain(self) -> bytes:
        """The file as it is now. Raises `Rejected`."""
        return self._read()[0]


def stamp(path: Path) -> Stamp:
    """What `path` leads to now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def content(path: Path) -> bytes:
    """What is in a file that holds a certificate or key. Raises `Rejected`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would otherwise block here for good
        with os.fdopen(fd, "rb") as file:
            kind = os.fstat(fd)
            if not stat.S_ISREG(kind.st_mode):
                raise Rejected(f"{path}: {_kind(kind.st_mode)}, not a file")
            if kind.st_size > _LARGEST:
                raise Rejected(f"{path}: {kind.st_size} bytes, too large for a certificate or key")
            return file.read(_LARGEST)
    except PermissionError:
        raise Rejected(f"{path}: not readable by uid {os.geteuid()}") from None
    except IsADirectoryError:
        raise Rejected(f"{path}: {_kind(stat.S_IFDIR)}, not a file") from None
    except OSError as error:
        reason = "no such file" if error.errno in (errno.ENOENT, errno.ENOTDIR) else error.strerror
        raise Rejected(f"{path}: {reason}") from None


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory (the engine makes one where the source of a bind mount is missing)"
    return "a pipe, socket or device"
