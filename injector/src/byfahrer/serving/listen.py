"""The socket itself: bound so that nobody gets at it too early, or at somebody else's, and removed at the end."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from byfahrer.serving.errors import InUseError, SocketError

BACKLOG: Final = 256
_LONGEST_PATH: Final = 107
"""Bytes of `sun_path` (unix(7)), less the zero at its end."""


@contextmanager
def listening(path: Path, user: str) -> Iterator[socket.socket]:
    """The socket, bound; removed at the end, unless somebody else's is there by then. SocketError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    if len(os.fsencode(draft)) > _LONGEST_PATH:
        raise SocketError(f"{path}: too long for a unix socket; expected at most {_LONGEST_PATH - 20} bytes")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            with suppress(FileExistsError):
                path.parent.mkdir(0o755, parents=True)
            with _alone(path.parent):
                _make_room(path)
                with suppress(FileNotFoundError):
                    draft.unlink()
                # Nobody can open it before it has its owner and its name.
                listener.bind(os.fspath(draft))
                _permit(draft, user)
                listener.listen(BACKLOG)
                listener.setblocking(False)
                ours = draft.stat().st_ino
                draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise SocketError(f"{path}: the socket: {error.strerror or error}") from None
        try:
            yield listener
        finally:
            with suppress(OSError):
                if path.stat().st_ino == ours:
                    path.unlink()
    finally:
        listener.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: of two that start together each would find room, and the later one replace the other's."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # for as long as a look takes, a second at most
        yield
    finally:
        os.close(handle)


def _make_room(path: Path) -> None:
    """See that what is at `path` is a socket that nobody listens on."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(state.st_mode):
        raise SocketError(f"{path}: there is something that is no socket; remove it, or choose another folder")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left by one that was killed
        except OSError:
            pass  # it is full, so somebody is there
    raise InUseError(f"{path}: another byfahrer serves there")


def _permit(path: Path, user: str) -> None:
    """
    Let sidecars open the socket, and as few others as we can.

    As root we give it to their user. Else that is not in our power, unless they run as we do, and anybody who gets at
    the folder may open it: what they can do there is decided by the token, which they do not have.
    """
    found = re.fullmatch(r"(\d+)(?::(\d+))?", user)
    uid = int(found[1]) if found else -1
    gid = int(found[2] or found[1]) if found else -1
    if uid == os.geteuid():
        path.chmod(0o600)
    elif found and os.geteuid() == 0:
        os.chown(path, uid, gid)
        path.chmod(0o660)
    else:
        path.chmod(0o666)
