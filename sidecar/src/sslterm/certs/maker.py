"""
The way to the child process that makes certificates.

Light on purpose: the command line starts the child ahead, before its own heavy imports, so that both are paid for at
the same time. The child waits for its order on stdin, and ends by itself if nobody gives one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CHILD: Final = Path(__file__).with_name("child.py")
_TIMEOUT: Final = 60.0
"""Seconds. The work takes 0.1 s; the rest is for a starved machine."""


class MakerError(Exception):
    """The child process failed: `str()` is one line that says how."""


class Maker:
    """Gives orders to children, one each; keeps at most one that was started ahead."""

    def __init__(self) -> None:
        self._waiting: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def ahead(cls, *, wanted: bool) -> Iterator[Maker]:
        """A maker whose first child is on its way already, if one is `wanted`; none is left behind at the end."""
        maker = cls()
        if wanted:
            maker._waiting = _start()
        try:
            yield maker
        finally:
            maker.close()

    def make(self, order: Mapping[str, Any]) -> dict[str, str]:
        """Blocks for about 0.1 s: what the child makes of `order` (see `child.py`). Raises `MakerError`."""
        try:
            child, self._waiting = self._waiting or _start(), None
        except OSError as error:
            raise MakerError(f"the child process cannot be started: {error.strerror}") from None
        with child:
            try:
                out, err = child.communicate(json.dumps(order).encode(), _TIMEOUT)
            except subprocess.TimeoutExpired:
                child.kill()
                raise MakerError(f"the child process did not finish within {_TIMEOUT:.0f} s") from None
        if child.returncode:
            last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
            raise MakerError(f"the child process failed: {last[0]}")
        made: dict[str, str] = json.loads(out)
        return made

    def close(self) -> None:
        """End the child that was started ahead, if it was not needed."""
        if self._waiting is not None:
            self._waiting.kill()
            self._waiting.communicate()
            self._waiting = None


def _start() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    # -P: a file in the working directory must not stand in for a module of the child's.
    return subprocess.Popen([sys.executable, "-P", str(_CHILD)], stdin=pipe, stdout=pipe, stderr=pipe)
