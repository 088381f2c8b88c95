"""
What a polite client feels while others abuse the same sidecar: latency at a fixed rate, alone and under each abuse.

    .venv/bin/python bench/abuse.py [--quick] [--json FILE] [--rounds N] [--seconds S] [ABUSE ...]

The polite client sends 200 requests a second, each at its time whatever became of those before, over a few kept
connections and one new one a second. Latency counts from the time at which a request was meant to be sent, so a stall
is felt by all that it made late (no coordinated omission). Rounds alone and under abuse alternate, on one sidecar; it
is pinned to the first processor, everything else to the second. The bar: p99 under abuse at most twice that alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

# In place of this folder, whose lab.py would be taken for the tests' folder `lab`.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lab.abuser import abuse
from lab.client import relay
from lab.sidecar import Sidecar, any_certificate, wait_until

RATE = 200
KEPT = 8
"""Connections of the polite client. A request that finds all of them busy is late, and that counts."""
BAR = 2.0
ON_FIRST = ("taskset", "-c", "0")
POLITE_NICE, ABUSER_NICE = -10, 10
"""They share a processor: the client that is measured (and its backend) must not wait for the one that is not."""
REQUEST = b"GET /polite HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /polite HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100


PIECE = bytes(65536)


class Abuse(NamedTuple):
    kind: str
    """As `lab.abuser` calls it."""
    count: int
    rate: int


ABUSES = {
    "slow handshakes": Abuse("slow_handshakes", 500, 500),
    "slow heads": Abuse("slow_heads", 500, 500),
    "slow bodies": Abuse("slow_bodies", 500, 500),
    "8,000 idle connections": Abuse("idle", 8000, 1),
    "churn, 200/s": Abuse("one_request", 1, 200),
    "tiny writes, 1,000/s": Abuse("tiny_writes", 20, 1000),
    "clients that never read": Abuse("never_reads", 100, 10),
    "a path that never answers": Abuse("waits_for_the_backend", 200, 50),
}
"""Each at a rate that leaves the sidecar time: at one that does not, latency is that of any queue."""


# The backend.


class Service(asyncio.Protocol):
    """Answers at once, floods (`/bulk`), stays silent (`/stall`), or takes a body for ever (POST)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.head = b""
        self.done = False
        self.flooding = False

    def resume_writing(self) -> None:
        self.flooding = True
        while self.flooding and not self.transport.is_closing():
            self.transport.write(PIECE)

    def pause_writing(self) -> None:
        self.flooding = False

    def data_received(self, data: bytes) -> None:
        if self.done:
            return
        self.head += data
        while b"\r\n\r\n" in self.head:
            head, _, self.head = self.head.partition(b"\r\n\r\n")
            method, path = head.split(b" ", 2)[:2]
            self.done = method == b"POST" or path in (b"/bulk", b"/stall")
            if path == b"/bulk":
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
                self.resume_writing()
            if self.done:
                return
            self.transport.write(ANSWER)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, "127.0.0.1", 0, backlog=1024)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    os._exit(0)


@contextmanager
def service() -> Iterator[int]:
    """The backend in a process of its own; its port."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


# The polite client.


class Conversation:
    """One connection of the polite client, not blocking: a handshake if it is new, then a request at a time."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.connect_ex(("127.0.0.1", port))
        self.tls = context.wrap_socket(raw, do_handshake_on_connect=False)
        self._said = b""
        self._heard = 0
        self._steps = self._talk()
        self.intended = 0.0

    def say(self, request: bytes) -> None:
        self._said, self._heard = request, 0
        self._steps = self._talk()

    def _talk(self) -> Iterator[int]:
        """Yields what to wait for; ends with the response."""
        yield selectors.EVENT_WRITE
        for step in (self.tls.do_handshake, self._send, self._receive):
            while True:
                try:
                    step()
                    break
                except ssl.SSLWantReadError:
                    yield selectors.EVENT_READ
                except ssl.SSLWantWriteError:
                    yield selectors.EVENT_WRITE

    def _send(self) -> None:
        self.tls.send(self._said)

    def _receive(self) -> None:
        while self._heard == 0 or self._left > 0:
            data = self.tls.recv(65536)
            if not data:
                raise ConnectionResetError("no answer")
            if not self._heard:
                head, _, _ = data.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                self._left = len(head) + 4 + 100
            self._heard += len(data)
            self._left -= len(data)

    def go_on(self) -> int:
        """What to wait for; 0 when the response is there."""
        return next(self._steps, 0)


class Polite:
    """The client that is measured."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._context = any_certificate()
        self._selector = selectors.DefaultSelector()
        self._free = [Conversation(port, self._context) for _ in range(KEPT)]
        self.late: list[float] = []
        """Seconds from the intended time to the whole response, of each request."""

    def _begin(self, conversation: Conversation, intended: float, request: bytes) -> None:
        conversation.intended = intended
        conversation.say(request)
        self._selector.register(conversation.tls, conversation.go_on(), (conversation, request is REQUEST))

    def run(self, seconds: float) -> list[float]:
        """For so long, and until the last response; the latencies."""
        self.late = []
        begun = time.monotonic() + 0.05
        due = [(begun + each / RATE, REQUEST) for each in range(int(seconds * RATE))]
        due += [(begun + 0.5 + each, LAST) for each in range(int(seconds))]
        due.sort(reverse=True)
        left = len(due)
        waiting: list[float] = []
        while left:
            now = time.monotonic()
            assert now < begun + seconds + 60, "some requests were never answered"
            while due and due[-1][0] <= now:
                intended, request = due.pop()
                if request is LAST:
                    self._begin(Conversation(self._port, self._context), intended, LAST)
                else:
                    waiting.append(intended)
            while waiting and self._free:
                self._begin(self._free.pop(0), waiting.pop(0), REQUEST)
            for key, _ in self._selector.select(max(due[-1][0] - now, 0) if due else 1):
                left -= self._step(*key.data)
        return self.late

    def _step(self, conversation: Conversation, keep: bool) -> int:
        wanted = conversation.go_on()
        if wanted:
            self._selector.modify(conversation.tls, wanted, (conversation, keep))
            return 0
        self.late.append(time.monotonic() - conversation.intended)
        self._selector.unregister(conversation.tls)
        if keep:
            self._free.append(conversation)
        else:
            conversation.tls.close()
        return 1

    def close(self) -> None:
        for each in self._free:
            each.tls.close()
        self._selector.close()


# The measurement.


def quantile(figures: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(figures)[min(int(len(figures) * share), len(figures) - 1)] * 1000


def sockets(running: Sidecar) -> int:
    return sum(1 for _ in Path(f"/proc/{running.pid}/fd").iterdir())


def rounds(port: int, running: Sidecar, what: Abuse, number: int, seconds: float) -> tuple[list[float], list[float]]:
    """Latencies alone and under abuse, in turn on one sidecar that is idle again before each."""
    alone: list[float] = []
    abused: list[float] = []
    polite = Polite(port)
    polite.run(1)
    quiet = sockets(running)
    niced = ("nice", "-n", str(ABUSER_NICE))
    for _ in range(number):
        alone += polite.run(seconds)
        with abuse(what.kind, port, what.count, what.rate, niced):
            abused += polite.run(seconds)
        wait_until(lambda: sockets(running) <= quiet, "the end of all that they left behind")
    polite.close()
    return alone, abused


def measure(names: list[str], number: int, seconds: float) -> list[dict[str, Any]]:
    rows = []
    print(f"{'':<28}{'alone p50':>10}{'p99':>8}{'p99.9':>8}{'abused p50':>12}{'p99':>8}{'p99.9':>8}{'p99 ratio':>11}")
    for name in names:
        limits = ("--max-connections=9000", "--keepalive-timeout=10m", "--access-log=off")
        with service() as backend_port, relay(backend_port, *limits, before=ON_FIRST) as running:
            alone, abused = rounds(running.port, running, ABUSES[name], number, seconds)
        shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
        figures = {f"{share}_ms_alone": round(quantile(alone, at), 3) for share, at in shares.items()}
        figures |= {f"{share}_ms": round(quantile(abused, at), 3) for share, at in shares.items()}
        ratio = round(figures["p99_ms"] / figures["p99_ms_alone"], 2)
        rows.append({"abuse": name, **figures, "ratio": ratio, "requests": len(abused)})
        one, two = [[figures[f"{share}_ms{who}"] for share in shares] for who in ("_alone", "")]
        print(f"{name:<28}{one[0]:>10.2f}{one[1]:>8.2f}{one[2]:>8.2f}{two[0]:>12.2f}{two[1]:>8.2f}{two[2]:>8.2f}"
              f"{ratio:>10.2f}{'' if ratio <= BAR else ' missed'}", flush=True)  # fmt: skip
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="one short round of each")
    arguments.add_argument("--json", type=Path, metavar="FILE")
    arguments.add_argument("--rounds", type=int)
    arguments.add_argument("--seconds", type=float)
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("abuse", nargs="*", metavar="ABUSE", help=f"some of: {', '.join(ABUSES)}")
    chosen = arguments.parse_args()
    if chosen.serve:
        asyncio.run(serve())
        return
    os.sched_setaffinity(0, {1})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, POLITE_NICE)
    number = chosen.rounds or (1 if chosen.quick else 3)
    seconds = chosen.seconds or (2 if chosen.quick else 3)
    rows = measure(chosen.abuse or list(ABUSES), number, seconds)
    print(f"worst ratio: {max(each['ratio'] for each in rows)}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
