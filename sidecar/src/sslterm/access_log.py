"""
The access log: one line per request (http) or connection (tcp), at its end, in the 2017 program's order of columns.

A log call per line through a general logger costs 13 to 15 µs, as much as the request itself, so lines are made here
and handed on in batches. Beyond `_MOST_WAITING` bytes that nobody reads the newest lines are dropped, and counted in a
line of their own.
"""

from __future__ import annotations

import json
import time
from typing import Final

from sslterm.output import Output
from sslterm.protocol.flows import Record
from sslterm.settings import LogFormat

_MOST_WAITING: Final = 8 * 1024 * 1024
"""Bytes of lines: 80,000 usual ones, or 256 of the longest that a head may make."""


_TOGETHER: Final = 64
"""Records of which lines are made at a time: in a loop of their own they cost a third of what they do one by one."""
_LONGEST_TARGET: Final = 2048
"""Characters of a path that are logged: escaped, 32 KiB of it would cost 10 ms and 128 KiB of log."""
_ESCAPES: Final = {code: f"\\x{code:02x}" for code in range(256) if not 0x20 < code < 0x7F}


def _printable(target: str) -> str:
    """A request target for the log: a path must not be able to forge or colour a line, nor to fill the disk."""
    if len(target) > _LONGEST_TARGET:
        target = f"{target[:_LONGEST_TARGET]}..."
    return target if target.isascii() else target.translate(_ESCAPES)


class AccessLog:
    """Collects lines and writes them to the file descriptor `fd`; `lock`: as `Output` has it."""

    def __init__(self, fd: int, form: LogFormat, lock: int | None = None) -> None:
        self._output = Output(fd, lock)
        self._json = form is LogFormat.JSON
        self._records: list[tuple[Record, str]] = []
        self._lines: list[str] = []
        self._size = 0  # bytes of these
        self._room = _MOST_WAITING  # bytes that they may have before the next flush
        self._dropped = 0  # lines; a line says so
        self._told = 0  # lines that could not be written, of which a line said so
        self._second = -1
        self._stamp = ""  # of that second

    def add(self, record: Record, client: str) -> None:
        """
        One finished exchange. Its clock is `time.monotonic`.

        `client` is address:port and, after a space, who it proved to be, if it did.
        """
        self._records.append((record, client))
        if len(self._records) >= _TOGETHER:
            self._format()

    def _format(self) -> None:
        records, self._records = self._records, []
        offset = time.time() - time.monotonic()
        for record, client in records:
            if self._size >= self._room:
                self._dropped += 1
                continue
            started, ended, status, method, target, received, sent, fault = record
            wall = ended + offset
            second = int(wall)
            if second != self._second:
                self._second = second
                self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            stamp = f"{self._stamp}.{int((wall - second) * 1000):03d}Z"
            if len(target) > _LONGEST_TARGET or not target.isascii():
                target = _printable(target)
            took = int((ended - started) * 1_000_000)
            if self._json:
                line = _as_json(stamp, record, client, target, took)
            else:
                what = f"{method} {target}" if method else f"out {target}" if target else "tcp"
                sizes = sent if method else f"{received}/{sent}"
                millis = f"{took // 1000:6}.{took % 1000:03}ms"
                line = f"{stamp} | {status or '-':>3} | {millis} | {client} | {what} | {sizes}"
                line = f"{line} | {fault}\n" if fault else f"{line}\n"
            self._lines.append(line)
            self._size += len(line)

    def flush(self) -> None:
        """Hand on what was collected; never blocks."""
        self._format()
        failed = self._output.failed - self._told
        if (self._dropped or failed) and self._output.waiting < _MOST_WAITING // 2:
            self._told += failed
            note = f"{self._dropped + failed} lines were dropped: nobody reads this log fast enough"
            self._dropped = 0
            self._lines.append(f"{json.dumps({'error': note})}\n" if self._json else f"{note}\n")
        if self._lines:
            lines, self._lines, self._size = self._lines, [], 0
            self._output.put("".join(lines).encode("ascii", "replace"), len(lines))
        self._room = _MOST_WAITING - self._output.waiting

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left, for at most `timeout` seconds."""
        self.flush()
        self._output.close(timeout)


def _as_json(stamp: str, record: Record, client: str, target: str, took: int) -> str:
    entry: dict[str, str | int | float] = {"time": stamp}
    if record.method:
        entry |= {"status": record.status}
    client, _, identity = client.partition(" ")
    entry |= {"duration_ms": took / 1000, "client": client}
    if identity:
        entry["client_id"] = identity
    if record.method:
        entry |= {"method": record.method, "path": target}
    elif target:
        entry |= {"direction": "out", "upstream": target}
    entry |= {"received": record.received, "sent": record.sent}
    if record.fault:
        entry["error"] = record.fault
    return json.dumps(entry, separators=(",", ":")) + "\n"
