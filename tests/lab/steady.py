"""
A steady load from a process of its own, and a backend in another: requests at a fixed rate whatever becomes of them.

The client behaves as HTTP asks: it keeps its connections open, sends on one until a response says `Connection: close`,
and opens a new one now and then anyway. Anything but a complete response with the right content is a failure, and each
is told. It is never repeated, though HTTP would allow it: what a server loses, this client shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from lab.sidecar import PATIENCE, any_certificate, environment

RATE = 2000
CONNECTIONS = 24
REQUESTS_PER_CONNECTION = 40
"""After as many the client leaves by itself: 50 new connections a second, besides those that the server ends."""
PIECE = 4096


# The processes.


class Answers(asyncio.Protocol):
    """The backend: sends each request's target back; or, in tcp mode, whatever comes."""

    def __init__(self, mode: str) -> None:
        self._raw = mode == "tcp"
        self._held = b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        if self._raw:
            self._transport.write(data)
            return
        *heads, self._held = (self._held + data).split(b"\r\n\r\n")
        for head in heads:
            target = head.split(b" ", 2)[1]
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))


async def serve(mode: str) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answers(mode), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


class Load:
    def __init__(self, mode: str, host: str, port: int, roots: str = "", rate: int = RATE) -> None:
        """`roots`: a file of those to believe, for the name localhost; without it any certificate will do."""
        self._rate = rate
        self._where = (host, port)
        self._turn = self._request if mode == "http" else self._piece
        self._due: asyncio.Queue[int] = asyncio.Queue()
        self._context = any_certificate()
        if roots:
            self._context.load_verify_locations(roots)
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.check_hostname = True
        self._awaited = 0
        self.due = self.answered = self.opened = 0
        self.failures: list[str] = []

    async def run(self) -> None:
        """Until the standard input ends; everything that was begun by then is brought to its end."""
        loop = asyncio.get_running_loop()
        workers = [asyncio.create_task(self._work(each)) for each in range(CONNECTIONS)]
        orders = asyncio.create_task(asyncio.to_thread(self._take_orders))
        begin = loop.time()
        while not orders.done():
            while self.due < (loop.time() - begin) * self._rate:
                self.due += 1
                self._due.put_nowait(self.due)
            if self._awaited and self.answered + len(self.failures) >= self._awaited:
                self._awaited = 0
                print("done", flush=True)
            await asyncio.sleep(0.005)
        seconds = loop.time() - begin
        for _ in workers:
            self._due.put_nowait(0)
        await asyncio.gather(*workers)
        rate = round(self.answered / seconds)
        counts = {name: getattr(self, name) for name in ("due", "answered", "opened", "failures")}
        print(json.dumps(counts | {"rate": rate}))

    def _take_orders(self) -> None:
        """Each is a number: of requests from now on, after whose answers a word is wanted."""
        for line in sys.stdin:
            self._awaited = self.due + int(line)

    async def _work(self, place: int) -> None:
        number = await self._due.get()
        most = REQUESTS_PER_CONNECTION * (place + 1) // CONNECTIONS  # at first: they are not to leave all at once
        while number:
            used, connection = 0, None
            try:
                connection = await asyncio.open_connection(*self._where, ssl=self._context, server_hostname="localhost")
                self.opened += 1
                more = True
                while more and number:
                    more = await asyncio.wait_for(self._turn(number, *connection), PATIENCE)
                    self.answered += 1
                    used += 1
                    number = await self._due.get()
                    more = more and used < most
            except Exception as error:  # noqa: BLE001 - each is a lost request, whatever it was
                self.failures.append(f"request {used + 1} of a connection: {error!r}")
                number = await self._due.get()
            finally:
                most = REQUESTS_PER_CONNECTION
                if connection is not None:
                    connection[1].close()
                    with contextlib.suppress(OSError):
                        await connection[1].wait_closed()

    async def _request(self, number: int, reader, writer) -> bool:
        target = b"/%d" % number
        writer.write(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200 ") or body != target:
            raise ValueError(head + body)
        return b"connection: close" not in head

    async def _piece(self, number: int, reader, writer) -> bool:
        piece = b"%d," % number * (PIECE // 8)
        writer.write(piece)
        if await reader.readexactly(len(piece)) != piece:
            raise ValueError("other bytes came back")
        return True


# For tests.


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment()) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(BrokenPipeError, ValueError):
                process.stdin.close()


class Steady:
    """A running load."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def goes_on(self, requests: int) -> None:
        """Wait until so many are answered that were not due before now, and all that were."""
        self._process.stdin.write(f"{requests}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def result(self) -> dict:
        """Stop, and count."""
        return json.loads(self._process.communicate(timeout=PATIENCE)[0].splitlines()[-1])


@contextmanager
def steady_backend(mode: str = "http") -> Iterator[int]:
    """Its port."""
    with _process("serve", mode) as process:
        yield int(process.stdout.readline())


@contextmanager
def steady_load(
    port: int, mode: str = "http", host: str = "127.0.0.1", roots: str = "", rate: int = RATE
) -> Iterator[Steady]:
    """`rate`: requests a second; fewer where much else goes on, as every one that is late has to be made up for."""
    with _process("load", mode, host, str(port), roots, str(rate)) as process:
        yield Steady(process)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(Load(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], int(sys.argv[6])).run())
