"""
The folder in which the authority keeps what it must not lose: mode 0700, files 0600, written whole or not at all.

Nothing that is found damaged is ever replaced: a root that is silently made anew locks out everybody who trusts the old
one. Each file is replaced by renaming, so a reader needs no lock; `locked` is for those who read and then write.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from byfahrer.authority.errors import StateError

DEFAULT: Final = Path("/var/lib/byfahrer")
MOST: Final = 16 * 1024**2
"""Bytes of one file: the ledger of ten thousand targets has half of it."""
_LOCK: Final = "lock"


def default_path(environ: Mapping[str, str]) -> Path:
    """`/var/lib/byfahrer` where we may write there, or could make it; else in the user's own state folder."""
    if os.access(DEFAULT if DEFAULT.exists() else DEFAULT.parent, os.W_OK | os.X_OK):
        return DEFAULT
    home = environ.get("XDG_STATE_HOME") or ""
    # The XDG specification: a relative path is to be ignored.
    return (Path(home) if home.startswith("/") else Path.home() / ".local" / "state") / "byfahrer"


class StateFolder:
    """The state folder at `path`. Every method may raise StateError, which names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Have the folder there, for nobody else to write in."""
        try:
            with suppress(FileExistsError):
                self.path.mkdir(0o700, parents=True)
            state = self.path.stat()
            if not stat.S_ISDIR(state.st_mode):
                raise StateError(f"{self.path}: expected a folder for byfahrer's state")
            _check_owner(self.path, state)
            if state.st_mode & 0o077 and not any(self.path.iterdir()):
                self.path.chmod(0o700)  # a fresh volume is 0755
            elif state.st_mode & 0o022:
                raise StateError(f"{self.path}: others may write in it; chmod 700 it, once you know that nobody did")
        except OSError as error:
            raise _failed(self.path, error) from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing anything meanwhile. Held for moments; not to be nested."""
        self.prepare()
        try:
            lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _failed(self.path / _LOCK, error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel gives it back, should this process die
            yield
        finally:
            os.close(lock)

    def read(self, name: str) -> bytes | None:
        """What is in a file; None if there is none."""
        path = self.path / name
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(path, error) from None
        try:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode):
                raise StateError(f"{path}: expected a plain file")
            _check_owner(path, state)
            if state.st_mode & 0o077:
                mode = f"{stat.S_IMODE(state.st_mode):04o}"
                raise StateError(f"{path}: its mode is {mode}, so others may know or have changed it; expected 0600")
            with os.fdopen(file, "rb", closefd=False) as opened:
                content = opened.read(MOST + 1)
        except OSError as error:
            raise _failed(path, error) from None
        finally:
            os.close(file)
        if len(content) > MOST:
            raise StateError(f"{path}: expected at most {MOST} bytes")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Have a file with this content, or the one that was there: nothing in between, whatever fails."""
        path = self.path / name
        # One name for each process: what a crash left behind is overwritten by its next namesake, not gathered.
        draft = self.path / f".{name}.{os.getpid()}"
        try:
            with suppress(FileNotFoundError):
                draft.unlink()
            file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(file, "wb") as opened:
                    opened.write(content)
                    opened.flush()
                    os.fsync(file)
                draft.replace(path)
            except BaseException:
                with suppress(OSError):
                    draft.unlink()
                raise
            self._sync()
        except OSError as error:
            raise _failed(path, error) from None

    def put_aside(self, name: str) -> None:
        """Keep what is damaged under another name, for people to look at; only for what can be had anew."""
        try:
            (self.path / name).replace(self.path / f"{name}.damaged")
        except OSError as error:
            raise _failed(self.path / name, error) from None

    def version(self, name: str) -> tuple[int, ...] | None:
        """Changes when the file does; None if there is none."""
        return version(self.path / name)

    def _sync(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def version(path: Path) -> tuple[int, ...] | None:
    """What changes when the file at `path` does, links followed."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def _check_owner(path: Path, state: os.stat_result) -> None:
    if state.st_uid not in (0, os.geteuid()):
        raise StateError(f"{path}: it belongs to user {state.st_uid}; expected user {os.geteuid()}, who runs byfahrer")


def _failed(path: Path, error: OSError) -> StateError:
    return StateError(f"{path}: {error.strerror or error}")
