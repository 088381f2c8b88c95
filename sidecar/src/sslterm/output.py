"""
Writing to a standard stream from a thread of its own, so that a reader who stops reading stops nobody else.

What was handed over and not yet written is bounded by whoever hands it over, with `waiting`; what could not be written
at all is counted in `failed`. Each number is written by one thread only, because `+=` by two would lose some.
"""

from __future__ import annotations

import os
import queue
import select
import threading


class Output:
    """
    Writes to the file descriptor `fd`, in order.

    `lock` is a file that is locked for each batch, where several processes write to the same `fd`: a pipe takes 4 KiB
    in one piece, and of two longer batches it may take a bit of each in turn.
    """

    def __init__(self, fd: int, lock: int | None = None) -> None:
        self._fd = fd
        self._lock = lock
        self._taken = 0
        self._done = 0  # the writer's
        self.failed = 0  # the writer's
        """Lines that could not be written."""
        self._batches: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name=f"output {fd}", daemon=True)
        self._writer.start()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._taken - self._done

    def put(self, data: bytes, lines: int = 1) -> None:
        """Have `data` written; never blocks. One thread at a time."""
        self._taken += len(data)
        self._batches.put((data, lines))

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left, for at most `timeout` seconds."""
        self._batches.put(None)
        self._writer.join(timeout)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            data, lines = batch
            try:
                if self._lock is None:
                    self._write_all(data)
                else:
                    self._write_alone(data, self._lock)
            except OSError:
                self.failed += lines  # closed, or its disk is full: the traffic goes on
            self._done += len(data)

    def _write_all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # whoever started us shares a pipe with us that does not block
                select.select((), (self._fd,), ())

    def _write_alone(self, data: bytes, lock: int) -> None:
        import fcntl

        fcntl.lockf(lock, fcntl.LOCK_EX)  # given back by the kernel, should this process die
        try:
            self._write_all(data)
        finally:
            fcntl.lockf(lock, fcntl.LOCK_UN)
