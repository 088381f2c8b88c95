"""
The way to the child process that talks to an ACME server: one for each order, gone when it is done.

What it says is waited for one event at a time, and whoever waits may be interrupted and come back: the order goes on
meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATIENCE: Final = 300.0
"""Seconds for an order; the child gives up on a server after 240."""
_CHUNK: Final = 65536
_LONGEST: Final = 1024 * 1024
"""Bytes of one event; a chain of ten certificates is 20 KB."""


class Process:
    """A child process and its order."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        """Start it. Raises OSError."""
        self._deadline = monotonic() + _PATIENCE
        self._received = b""
        self._socket, theirs = socket.socketpair()
        self._complaint = os.memfd_create("complaint", os.MFD_CLOEXEC)
        try:
            with theirs:
                # -P: a file in the working directory must not stand in for a module of the child's.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sslterm.certs.acme_child"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._complaint,
                )
        except OSError:
            self._socket.close()
            os.close(self._complaint)
            raise
        with suppress(OSError):  # it has ended already: so says the first event
            self.send(order)
        self._socket.setblocking(False)

    def send(self, what: Mapping[str, Any]) -> None:
        """Tell it something, which always has room: there is nothing else on its way to it."""
        self._socket.sendall(json.dumps(what).encode() + b"\n")

    async def event(self) -> dict[str, Any]:
        """The next thing it says. One that ends without a word, or takes too long, is said to have failed."""
        with anyio.move_on_after(self._deadline - monotonic()):
            while True:
                line, newline, rest = self._received.partition(b"\n")
                if newline:
                    self._received = rest
                    event: dict[str, Any] = json.loads(line)
                    return event
                try:
                    data = self._socket.recv(_CHUNK)
                except BlockingIOError:
                    await anyio.wait_readable(self._socket)
                    continue
                except OSError:
                    data = b""
                if not data or len(self._received) > _LONGEST:
                    return self._failed(f"the child process failed: {self._last_words()}")
                self._received += data
        return self._failed(f"the child process did not finish within {_PATIENCE:g} s")

    def close(self) -> None:
        """Leave nothing of it behind. Once."""
        self._process.kill()
        self._process.wait()
        self._socket.close()
        os.close(self._complaint)

    def _last_words(self) -> str:
        text = os.pread(self._complaint, _CHUNK, max(os.fstat(self._complaint).st_size - _CHUNK, 0))
        lines = text.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"

    @staticmethod
    def _failed(why: str) -> dict[str, Any]:
        return {"event": "failed", "why": why, "kind": why, "reached": False, "after": 0.0}
