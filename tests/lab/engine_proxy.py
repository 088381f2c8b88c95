"""A socket between the injector and the engine, which can go away, hang, or keep events to itself."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from lab.waiting import wait_until


class EngineProxy:
    """Forwards bytes between clients of its own socket and the engine's."""

    def __init__(self, folder):
        self.path = folder / "engine.sock"
        self.deaf = False
        """Whether event streams stay open and silent."""
        self.hangs = False
        """Whether nothing is forwarded any more, and nothing closed."""
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self.open()

    @property
    def env(self):
        return {"DOCKER_HOST": f"unix://{self.path}"}

    def open(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._spawn(self._accept, self._listener)

    def close(self):
        """The engine is away: nobody listens, and what was open is broken."""
        self.path.unlink(missing_ok=True)
        wait_until(self._all_broken)
        self._sockets.clear()
        self._threads.clear()

    def _all_broken(self):
        """Break what is open; one that is accepted just now comes with the next call."""
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        return not any(thread.is_alive() for thread in list(self._threads))

    def _spawn(self, target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
            self._sockets += [client, engine]
            events = threading.Event()
            self._spawn(self._forward, client, engine, events, True)
            self._spawn(self._forward, engine, client, events, False)

    def _forward(self, source, sink, events, asking):
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if asking and b"/events?" in data:
                events.set()
            if self.hangs or (self.deaf and not asking and events.is_set() and not data.startswith(b"HTTP/")):
                if not data:
                    return
                continue
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return
