"""A socket between byfahrer and the engine that counts the calls."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

_REQUEST = re.compile(rb"(GET|POST|PUT|DELETE|HEAD) (?:/v[0-9.]+)?(/\S*) HTTP/1\.1\r\n")
_ID = re.compile(r"(?<=/)(?:sha256:)?[0-9a-f]{12,}(?=/|$)")
WATCHING = ("HEAD /_ping", "GET /_ping", "GET /events")
"""What is asked however little there is to do: the ping, every few seconds, and the stream."""


class Counting:
    """Forwards bytes as they are; the SDK begins each request with a write of its own."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.path = folder / "counted.sock"
        self.calls: Counter[str] = Counter()
        self.last = time.monotonic()
        """When the last one came, but for `WATCHING`."""
        self._engine = engine
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def quiet(self, seconds: float) -> bool:
        return time.monotonic() - self.last > seconds

    def since(self, before: Counter[str]) -> dict[str, int]:
        """The calls since a copy of `calls` was taken, but for `WATCHING`; the most frequent first."""
        return {name: n for name, n in (self.calls - before).most_common() if name not in WATCHING}

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(self._engine)
            self._open |= {client, engine}
            for pair in ((client, engine, True), (engine, client, False)):
                threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if asks and (found := _REQUEST.match(data)):
                    self._count(found[1].decode(), found[2].decode())
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _count(self, method: str, target: str) -> None:
        name = called(method, target)
        self.calls[name] += 1
        if name not in WATCHING:
            self.last = time.monotonic()


def called(method: str, target: str) -> str:
    """A call by its endpoint: without the IDs in it, and a list by whether it is of all."""
    path, _, query = target.partition("?")
    path = _ID.sub("ID", path)
    if path.startswith("/images/"):
        path = "/images/NAME/json" if path.endswith("/json") else path
    if path == "/containers/json":
        path += " of one target" if "byfahrer.target" in query else " of all"
    return f"{method} {path}"
