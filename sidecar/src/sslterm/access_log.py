"""
The access log: one line per request (http) or connection (tcp), at its end, in the 2017 program's order of columns.

A log call per line through a general logger costs 13 to 15 µs, as much as the request itself, so lines are made here and
handed on in batches. A thread writes them: a reader of our standard output that stops reading must not stop the traffic,
so beyond `_MOST_WAITING` lines the newest are dropped, and counted in a line of their own.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from typing import Final

from sslterm.protocol.flows import Record
from sslterm.settings import LogFormat

_MOST_WAITING: Final = 50_000


def _printable(text: str) -> str:
    """`text` with everything but printable ASCII escaped: a path must not be able to forge or colour a line."""
    return "".join(c if " " < c < "\x7f" else f"\\x{ord(c):02x}" for c in text)


class AccessLog:
    """Collects lines and writes them to the file descriptor `fd`."""

    def __init__(self, fd: int, form: LogFormat) -> None:
        self._fd = fd
        self._json = form is LogFormat.JSON
        self._lines: list[str] = []
        self._dropped = 0
        self._waiting = 0
        self._batches: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._second = 0
        self._stamp = ""
        self._writer = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._writer.start()

    @property
    def pending(self) -> bool:
        """Lines wait for `flush`."""
        return bool(self._lines)

    def add(self, record: Record, client: str) -> None:
        """One finished exchange; `client` is address:port. Its clock is `time.monotonic`."""
        if self._waiting + len(self._lines) >= _MOST_WAITING:
            self._dropped += 1
            return
        wall = time.time()
        second = int(wall)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        stamp = f"{self._stamp}.{int((wall - second) * 1000):03d}Z"
        millis = (record.ended - record.started) * 1000
        target = record.target if record.target.isascii() else _printable(record.target)
        if self._json:
            line = self._as_json(stamp, record, client, target, millis)
        else:
            what = f"{record.method} {target}" if record.method else "tcp"
            fault = f" | {record.fault}" if record.fault else ""
            sizes = f"{record.sent}" if record.method else f"{record.received}/{record.sent}"
            line = f"{stamp} | {record.status or '-':>3} | {millis:10.3f}ms | {client} | {what} | {sizes}{fault}\n"
        self._lines.append(line)

    def _as_json(self, stamp: str, record: Record, client: str, target: str, millis: float) -> str:
        entry: dict[str, str | int | float] = {"time": stamp}
        if record.method:
            entry |= {"status": record.status}
        entry |= {"duration_ms": round(millis, 3), "client": client}
        if record.method:
            entry |= {"method": record.method, "path": target}
        entry |= {"received": record.received, "sent": record.sent}
        if record.fault:
            entry["error"] = record.fault
        return json.dumps(entry, separators=(",", ":")) + "\n"

    def flush(self) -> None:
        """Hand on what was collected; never blocks."""
        if self._dropped and self._waiting < _MOST_WAITING // 2:
            count, self._dropped = self._dropped, 0
            note = f"{count} lines were dropped: nobody reads this log fast enough"
            self._lines.append(f"{json.dumps({'error': note})}\n" if self._json else f"{note}\n")
        if self._lines:
            lines, self._lines = self._lines, []
            self._waiting += len(lines)
            self._batches.put(("".join(lines).encode("ascii", "backslashreplace"), len(lines)))

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left, for at most `timeout` seconds."""
        self.flush()
        self._batches.put(None)
        self._writer.join(timeout)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            data, count = batch
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError:
                self._dropped += count  # closed, or its disk is full: the traffic goes on
            self._waiting -= count
