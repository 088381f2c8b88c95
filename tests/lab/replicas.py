"""
A steady load on several replicas, as a load balancer puts it on them, from a process of its own.

Three kinds of clients at the same time: one request on a new connection each; requests on connections that are kept;
and requests that take a second. Replicas are picked in turn. Where a connection is refused, or fails before anything
was asked on it (which includes the TLS handshake), the next replica is asked; whatever becomes of a request that was
sent is told, and never tried again. Orders are lines of JSON: the addresses at which there are replicas from now on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from lab.sidecar import PATIENCE, any_certificate

NEW = 25
"""New connections a second."""
KEPT = 4
"""Connections that are kept, with `OFTEN` seconds between requests."""
OFTEN = 0.05
SLOW = 4
"""Requests under way that take a second each, as many on each of two replicas."""
_CONNECT = 4.0
_AWAY = 0.3
"""Seconds for which a replica that refused is not asked."""
_ANSWER = 10.0
_NOBODY = 15.0
"""Seconds for which a request looks for a replica that takes it."""

TARGET = """
import asyncio, os, signal, sys
kind = sys.argv[1]
class Serves(asyncio.Protocol):
    every, going = set(), False
    def connection_made(self, transport):
        self.every.add(self)
        self.transport, self.held, self.busy, self.new = transport, b"", False, True
    def connection_lost(self, error):
        self.every.discard(self)
    def data_received(self, data):
        self.held += data
        self.next()
    def next(self):
        if not self.busy and b"\\r\\n\\r\\n" in self.held:
            head, _, self.held = self.held.partition(b"\\r\\n\\r\\n")
            self.busy, self.new = True, False
            slow = b"/slow" in head.partition(b"\\r\\n")[0]
            asyncio.get_running_loop().call_later(1.0 if slow else 0, self.answer, head.split(b" ", 2)[1])
    def answer(self, path):
        if self.transport.is_closing():
            return
        last = b"Connection: close\\r\\n" if Serves.going else b""
        self.transport.write(b"HTTP/1.1 200 OK\\r\\n%bContent-Length: %d\\r\\n\\r\\n%b" % (last, len(path), path))
        self.busy = False
        self.leave() if Serves.going else self.next()
    def leave(self):
        # What is idle goes; who was accepted and has asked nothing yet may still ask once.
        if not self.busy and not (self.new and Serves.going):
            self.transport.close()
async def serve():
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, os._exit if kind == "dies" else told.set, *([0] if kind == "dies" else []))
    server = await loop.create_server(Serves, "0.0.0.0", 8080, backlog=1024)
    await told.wait()
    if kind == "lame":
        await asyncio.sleep(2)
    server.close()
    Serves.going = True
    for each in list(Serves.every):
        each.leave()
    for _ in range(300):
        if not any(each.busy for each in Serves.every):
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
asyncio.run(serve())
"""
"""A target by the kind of its end: `finishes` what is under way, goes on as a `lame` duck for two seconds first, or
`dies` at once."""


class Lost(Exception):  # noqa: N818 - what became of a request, not a fault of ours
    """`str()` is how."""


class Load:
    """`tls`: speak it, and believe anybody."""

    def __init__(self, *, tls: bool) -> None:
        self._context: ssl.SSLContext | None = any_certificate() if tls else None
        self._replicas: list[tuple[str, int]] = []
        self._away: dict[tuple[str, int], float] = {}
        self._turn = 0
        self._over = False
        self._connects: list[float] = []
        self.answered: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    async def run(self) -> None:
        """Until the orders end; then print what became of all requests."""
        clients: list[asyncio.Task[None]] = []
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            self._replicas = [(host, port) for host, port in json.loads(line)]
            if not clients:
                clients = [asyncio.create_task(each) for each in self._clients()]
        self._over = True
        await asyncio.gather(*clients)
        counts = {name: dict(getattr(self, name)) for name in ("answered", "retried", "lost")}
        print(json.dumps(counts | {"connect": sorted(self._connects)[len(self._connects) * 19 // 20]}))

    def _clients(self):
        yield self._come_and_go()
        yield from (self._stay(place) for place in range(KEPT))
        yield from (self._wait(place) for place in range(SLOW))

    async def _come_and_go(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        due = monotonic()
        while not self._over:
            task = asyncio.create_task(self._once("new", b"/new"))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += 1 / NEW
            await asyncio.sleep(max(due - monotonic(), 0))
        await asyncio.gather(*under_way)

    async def _wait(self, place: int) -> None:
        while not self._over:
            await self._once("slow", b"/slow", place)

    async def _once(self, kind: str, path: bytes, place: int | None = None) -> None:
        with self._counting(kind):
            reader, writer = await self._connect(kind, place)
            try:
                await ask(reader, writer, path)
            finally:
                writer.close()

    async def _stay(self, place: int) -> None:
        connection = None
        while not self._over:
            if connection is not None and (connection[0].at_eof() or connection[1].is_closing()):
                connection[1].close()  # its server had closed it before there was something to ask
                connection = None
            more = False
            with self._counting("kept"):
                connection = connection or await self._connect("kept", place)
                more = await ask(*connection, b"/kept")
            if connection is not None and not more:
                connection[1].close()
                connection = None
            await asyncio.sleep(OFTEN)

    @contextmanager
    def _counting(self, kind: str) -> Iterator[None]:
        try:
            yield
        except Lost as error:
            self.lost[f"{kind}: {error}"] += 1
        else:
            self.answered[kind] += 1

    async def _connect(self, kind: str, place: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`place`: which of the replicas to prefer, so that each has as many of such clients; without one, in turn."""
        deadline = monotonic() + _NOBODY
        name = "localhost" if self._context else None
        while True:
            now = monotonic()
            there = [each for each in self._replicas if self._away.get(each, 0.0) <= now]
            if there:
                if place is None:
                    self._turn += 1
                chosen = there[(self._turn if place is None else place) % len(there)]
                try:
                    made = await asyncio.wait_for(
                        asyncio.open_connection(*chosen, ssl=self._context, server_hostname=name), _CONNECT
                    )
                except ConnectionRefusedError:
                    self.retried[f"{kind}: refused"] += 1
                except TimeoutError:
                    self.retried[f"{kind}: no answer"] += 1
                except OSError as error:
                    what = "unreachable" if isinstance(error, OSError) and error.errno == 113 else "in the handshake"
                    self.retried[f"{kind}: {what}"] += 1
                else:
                    self._connects.append(monotonic() - now)
                    return made
                self._away[chosen] = monotonic() + _AWAY
            elif now > deadline:
                raise Lost("refused by all")
            else:
                await asyncio.sleep(0.01)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes) -> bool:
    """Send a request and take its answer; whether the connection may be used again. Raises `Lost`."""
    writer.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
    head = b""
    try:
        async with asyncio.timeout(_ANSWER):
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            body = await reader.readexactly(int(lower.partition(b"content-length:")[2].split(b"\r\n")[0]))
    except TimeoutError:
        raise Lost("no answer") from None
    except asyncio.IncompleteReadError as error:
        raise Lost("truncated" if head or error.partial else "closed") from None
    except OSError:
        raise Lost("truncated" if head else "reset") from None
    status = head.split(b" ", 2)[1].decode()
    if status != "200":
        raise Lost(status)
    if body != path:
        raise Lost("other bytes")
    return b"connection: close" not in lower


# For tests.


class Running:
    """A running load."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def replicas(self, addresses: list[tuple[str, int]]) -> None:
        """Where they are from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(addresses) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Stop, and count. `connect`: seconds for a connection and its handshake, which one in twenty exceeds."""
        counts: dict[str, Any] = json.loads(self._process.communicate(timeout=PATIENCE)[0])
        return counts


@contextmanager
def replica_load(*, tls: bool, client: Path | None = None) -> Iterator[Running]:
    """`client`: the network namespace that it comes from, if not this one."""
    inside = ["nsenter", f"--net={client}"] if client else []
    command = [*inside, sys.executable, __file__, *(["tls"] if tls else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Running(process)
        finally:
            with contextlib.suppress(BrokenPipeError, ValueError):
                process.stdin.close()


if __name__ == "__main__":
    asyncio.run(Load(tls="tls" in sys.argv[1:]).run())
