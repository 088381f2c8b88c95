"""
Several processes that relay, kept by this one: started, told what to serve, replaced when they die, and counted.

They share the listening socket, and the memory in which they count. What one has to know of the sidecar's life goes
over a socket of its own, a line of JSON for each order (see `worker.py`): when this process ends, even by SIGKILL, they
see the end of that socket and end as well.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from sslterm.certs import tickets
from sslterm.endpoints import Unable
from sslterm.relay.listener import shut
from sslterm.relay.tally import OPEN, Tally
from sslterm.waiting import Bell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from anyio.abc import TaskGroup

    from sslterm.certs.challenge import Proof
    from sslterm.certs.store import Identity
    from sslterm.relay.policy import Backend
    from sslterm.settings import Settings

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
"""Seconds before a worker that died is replaced: twice as long each time, unless it lived for `_SOUND`."""
_SOUND: Final = 60.0
_OVERDUE: Final = 3.0
"""Seconds that a worker may take to end beyond those that it was given; it writes its access log for two of them."""
_PATIENCE: Final = 10.0
"""Seconds for all workers to take a certificate, which takes some milliseconds each."""
_SILENCE: Final = 5.0
"""Seconds in which a line is not repeated: half of what one worker's listener keeps."""
_CHUNK: Final = 65536


class Pool:
    """The workers of one sidecar."""

    def __init__(self, settings: Settings, report: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._report = report
        self._memory = os.memfd_create("tally", os.MFD_CLOEXEC)
        os.ftruncate(self._memory, Tally.size(settings.workers))
        self.tally = Tally(memoryview(mmap.mmap(self._memory, 0)))
        self.cut = 0
        """Connections that were cut at the end."""
        self._number = 0
        self._take: dict[str, Any] = {}
        self._serve: dict[str, Any] = {}
        self._challenge: dict[str, Any] = {}
        """The order to answer an ACME server's checks, while there are some."""
        self._listener: socket.socket | None = None
        self._outlets: list[socket.socket] = []
        """For calls to others, in the order of the setting."""
        self._workers: list[_Worker] = []
        self.refused = Bell()
        """Rung when the backend refuses a connection."""
        self._lame_until = 0.0
        self._said: dict[str, float] = {}
        self._leaving = anyio.Event()
        self._tasks: TaskGroup | None = None

    async def start(self, identity: Identity) -> None:
        """Start all workers, and wait until each can serve `identity`. Raises `Unable`."""
        self._next(identity)
        try:
            for row in range(self._settings.workers):
                self._workers.append(self._start(row))
        except OSError as error:
            raise Unable(f"workers={self._settings.workers}: cannot start a process: {error.strerror}", 1) from None
        for worker in self._workers:
            await worker.send(self._take)
        for worker in self._workers:
            async for news in worker.news():
                await self._hear(worker, news)
                if worker.took == self._number:
                    break
            else:
                raise Unable(f"workers={self._settings.workers}: one of them {await worker.end()} at once", 1)

    async def serve(self, listener: socket.socket, backends: Sequence[Backend]) -> None:
        """Have all workers accept at `listener`."""
        self._listener = listener
        self._serve = {"do": "serve", "backends": backends}
        for worker in self._workers:
            if not self._leaving.is_set():
                await worker.send(self._serve, listener.fileno())

    async def call_others(self, listeners: Sequence[socket.socket]) -> None:
        """Have all workers accept at `listeners`, in the order of the setting `outbound`."""
        self._outlets = list(listeners)
        for worker in self._workers:
            if not self._leaving.is_set():
                await self._share_outlets(worker)

    async def _share_outlets(self, worker: _Worker) -> None:
        for number, listener in enumerate(self._outlets):
            await worker.send({"do": "call_others", "number": number}, listener.fileno())

    def shut(self) -> None:
        """Listen no more, from now on; what is served is served on."""
        if self._listener is not None:
            shut(self._listener)  # the workers see it, and close theirs
            self._listener.close()
            self._listener = None

    async def run(self) -> None:
        """Keep them until all are drained or stopped."""
        async with anyio.create_task_group() as self._tasks:
            async with anyio.create_task_group() as keepers:
                for row in range(len(self._workers)):
                    keepers.start_soon(self._keep, row)
            self._tasks.cancel_scope.cancel()

    async def renew(self, identity: Identity) -> None:
        """Put `identity` into force, with new keys for tickets; returns when every worker has it."""
        self._next(identity)
        await self._agree(self._take, "certificate")

    async def challenge(self, proofs: Sequence[Proof]) -> None:
        """Answer an ACME server's checks with `proofs`, or none any more; returns when every worker does."""
        self._number += 1
        order = {"do": "challenge", "number": self._number, "proofs": proofs}
        self._challenge = order if proofs else {}
        await self._agree(order, "answer to an ACME challenge")

    async def _agree(self, order: dict[str, Any], what: str) -> None:
        """Give all workers an order that they acknowledge by its number, and wait until they have."""
        number = order["number"]
        workers = list(self._workers)
        waits = [worker.expect(number) for worker in workers]
        self._tell_all(order)
        with anyio.move_on_after(_PATIENCE):
            for each in waits:
                await each.wait()
            return
        for worker in workers:
            if worker.took < number:  # stuck: it is replaced, and the next one begins with this certificate
                self._report("ERROR", f"worker {worker.row + 1} did not take the {what} within {_PATIENCE:g} s")
                worker.kill()

    def drain(self, timeout: float) -> None:
        """Have them accept who waits, finish what is under way, and cut what is left after `timeout` seconds."""
        self._leave({"do": "drain", "timeout": timeout}, timeout)

    def lame_duck(self, seconds: float) -> None:
        """For so long, have them tell HTTP clients that each response is the last on its connection."""
        self._lame_until = monotonic() + seconds
        self._tell_all({"do": "lame_duck", "seconds": seconds})

    def stop(self) -> None:
        """Have them cut everything, now."""
        self._leave({"do": "stop"}, 0)

    def close(self) -> None:
        """Leave no process behind, however it came to the end."""
        for worker in self._workers:
            worker.kill()
            worker.forget()
        self._close_listeners()
        os.close(self._memory)
        self.refused.close()

    def _next(self, identity: Identity) -> None:
        credentials = identity.credentials
        self._number += 1
        self._take = {
            "do": "take",
            "number": self._number,
            "keys": os.urandom(tickets.SIZE).hex(),  # new ones: nobody resumes what was agreed before a change
            "pairs": [
                {
                    "chain": bundle.chain.decode("latin-1"),
                    "key": bundle.key.decode("latin-1"),
                    "source": bundle.source,
                    "key_source": bundle.key_source,
                    "hosts": facts.hosts,
                }
                for bundle, facts in zip(credentials.pairs, identity.every, strict=True)
            ],
            "authorities": credentials.authorities.decode("latin-1"),
            "own_uri": identity.facts.spiffe_id,
        }

    def _start(self, row: int) -> _Worker:
        return _Worker(row, self._memory, replace(self._settings, workers=1).as_flags())

    def _tell_all(self, order: dict[str, Any]) -> None:
        assert self._tasks is not None  # noqa: S101 - for the type checker: `run` runs
        for worker in self._workers:
            self._tasks.start_soon(worker.send, order)

    def _close_listeners(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for listener in self._outlets:
            listener.close()
        self._outlets = []

    def _leave(self, order: dict[str, Any], limit: float) -> None:
        assert self._tasks is not None  # noqa: S101 - as above
        self._leaving.set()
        self._close_listeners()
        self._tell_all(order)
        self._tasks.start_soon(self._enforce, limit + _OVERDUE)

    async def _enforce(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        for worker in self._workers:
            worker.kill()

    async def _keep(self, row: int) -> None:
        """Hear what the worker in this row has to say, and replace it when it dies."""
        pause = _FIRST_PAUSE
        while True:
            worker = self._workers[row]
            async for news in worker.news():
                await self._hear(worker, news)
            how = await worker.end()
            counts = self.tally.row(row)
            lost, counts[OPEN] = counts[OPEN], 0
            if self._leaving.is_set():
                self.cut += lost
                return
            if monotonic() - worker.began > _SOUND:
                pause = _FIRST_PAUSE
            self._report("ERROR", f"worker {row + 1} {how}, and {lost} connections with it; starting another")
            with anyio.move_on_after(pause):
                await self._leaving.wait()
            pause = min(pause * 2, _LONGEST_PAUSE)
            if self._leaving.is_set():
                return
            try:
                worker = self._workers[row] = self._start(row)
            except OSError as error:
                self._report("ERROR", f"cannot start a process: {error.strerror}")
                continue
            await worker.send(self._take)
            if self._challenge:
                await worker.send(self._challenge)
            if self._lame_until > monotonic():
                await worker.send({"do": "lame_duck", "seconds": self._lame_until - monotonic()})
            await self._share_outlets(worker)
            if self._listener is not None:
                await worker.send(self._serve, self._listener.fileno())

    async def _hear(self, worker: _Worker, news: dict[str, Any]) -> None:
        if "say" in news:
            self._say(*news["say"])
        elif "took" in news:
            worker.acknowledge(news["took"])
        elif "full" in news:
            # No connection of this worker is idle, but one of another may be: who has most is the likeliest.
            others = [each for each in self._workers if each is not worker]
            other = max(others, key=lambda each: self.tally.row(each.row)[OPEN])
            if self._tasks is not None:  # not awaited: one that hears nothing must not keep this one from being heard
                self._tasks.start_soon(other.send, {"do": "make_room"})
        elif "refused" in news:
            self.refused.ring()
        elif "cut" in news:
            self.cut += news["cut"]

    def _say(self, level: str, text: str) -> None:
        """Each worker says the same thing at most once in a while; all of them together, too."""
        now = monotonic()
        self._said = {said: when for said, when in self._said.items() if now - when < _SILENCE}
        if text not in self._said:
            self._said[text] = now
            self._report(level, text)


class _Worker:
    """One worker, as the first process sees it."""

    def __init__(self, row: int, memory: int, flags: Sequence[str]) -> None:
        self.row = row
        self.began = monotonic()
        self.took = 0
        """The number of the certificate that it serves."""
        self._expected: list[tuple[int, anyio.Event]] = []
        self._gone = False
        self._received = b""
        self._sending = anyio.Lock()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        with theirs:
            descriptors = theirs.fileno(), memory
            # -P: a file in the working directory must not stand in for a module of the worker's.
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sslterm.worker", *map(str, (*descriptors, row)), *flags],
                    stdin=subprocess.DEVNULL,
                    pass_fds=descriptors,
                )
            except OSError:
                self._channel.close()
                raise

    async def send(self, order: dict[str, Any], *descriptors: int) -> None:
        """Give an order; one that is gone gets none, and its end is seen elsewhere."""
        data = json.dumps(order).encode() + b"\n"
        async with self._sending:
            while data:
                try:
                    sent = socket.send_fds(self._channel, [data], descriptors)
                except BlockingIOError:
                    await anyio.wait_writable(self._channel)
                except OSError:
                    return
                else:
                    data, descriptors = data[sent:], ()

    async def news(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it ends."""
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                yield json.loads(line)
                continue
            try:
                data = self._channel.recv(_CHUNK)
            except BlockingIOError:
                await anyio.wait_readable(self._channel)
                continue
            except OSError:
                data = b""
            if not data:
                break
            self._received += data
        self._gone = True
        self._release()

    def expect(self, number: int) -> anyio.Event:
        """An event that is set when it serves the certificate of this number, or is gone."""
        event = anyio.Event()
        self._expected.append((number, event))
        self._release()
        return event

    def acknowledge(self, number: int) -> None:
        """It serves the certificate of this number."""
        self.took = number
        self._release()

    def _release(self) -> None:
        for number, event in self._expected:
            if self._gone or number <= self.took:
                event.set()
        self._expected = [each for each in self._expected if not each[1].is_set()]

    async def end(self) -> str:
        """Wait for the end of the process, whose socket has ended; how it ended, for people."""
        with suppress(subprocess.TimeoutExpired):
            await anyio.to_thread.run_sync(self._process.wait, _OVERDUE)
        self.kill()
        self.forget()
        code = self._process.returncode
        return f"exited with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Close the socket, for which nobody may be waiting at this moment: it would be for ever."""
        self._channel.close()
