"""
A process full of clients that mean no good: hundreds of slow ones, or thousands that just stay.

A process of its own, because 8,000 sockets beside those of a test would be too many for one, and so that a test's own
requests are not late for its sake. Run as a program:

    python -m lab.abuser KIND PORT COUNT RATE

It keeps COUNT clients of that kind and lets them do RATE things a second, each in its turn; one whose connection was
ended begins anew. It says `ready` once all have begun, and leaves when its input ends.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.client import Client, get
from lab.sidecar import PATIENCE, any_certificate

HELLO = Client.hello()
SLOW_BODY = get(b"/", b"Content-Length: 1000000", method=b"POST")
CHUNKED = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
LAST = get(b"/", b"Connection: close")
Behaviour = Iterator[None]


class Clients:
    """How all of them get a connection; they resume a session once they `learn` it, as browsers do."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._context = any_certificate()
        self._session: ssl.SSLSession | None = None

    def tcp(self, receive_buffer: int = 0) -> socket.socket:
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(PATIENCE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            raw.connect(("127.0.0.1", self._port))
        except BaseException:
            raw.close()
            raise
        return raw

    def tls(self, receive_buffer: int = 0) -> ssl.SSLSocket:
        raw = self.tcp(receive_buffer)
        try:
            return self._context.wrap_socket(raw, session=self._session)
        except BaseException:
            raw.close()
            raise

    def learn(self, said: bytes = LAST) -> None:
        """Have a session to resume."""
        with self.tls() as client:
            client.sendall(said)
            assert client.recv(1), "there is a ticket before the first byte"
            self._session = client.session


def stay(raw: socket.socket) -> Behaviour:
    """Do nothing until the other side ends it."""
    poll = select.poll()
    poll.register(raw, select.POLLRDHUP)
    while not poll.poll(0):
        yield


def slow_handshakes(clients: Clients) -> Behaviour:
    """A byte at a time, and the last one never."""
    with clients.tcp() as raw:
        for at in range(len(HELLO) - 1):
            raw.send(HELLO[at : at + 1])
            yield
        yield from stay(raw)


def slow_heads(clients: Clients) -> Behaviour:
    """Slowloris: a head that grows, and never ends."""
    with clients.tls() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
        while True:
            yield
            client.send(b"x")


def slow_bodies(clients: Clients) -> Behaviour:
    """R.U.D.Y.: a large body is announced and comes byte by byte."""
    with clients.tls() as client:
        client.send(SLOW_BODY)
        while True:
            yield
            client.send(b"x")


def idle(clients: Clients) -> Behaviour:
    with clients.tls() as client:
        yield
        yield from stay(client)


def idle_after_a_request(clients: Clients) -> Behaviour:
    with clients.tls() as client:
        client.sendall(get())
        client.recv(1)
        yield
        yield from stay(client)


def tiny_writes(clients: Clients) -> Behaviour:
    """A body of chunks of one byte, each byte of their framing in a TLS record of its own."""
    with clients.tls() as client:
        client.sendall(CHUNKED)
        for byte in itertools.cycle(b"1\r\nx\r\n"):
            yield
            client.send(bytes((byte,)))


def tiny_tcp_writes(clients: Clients) -> Behaviour:
    with clients.tls() as client:
        while True:
            yield
            client.send(b"x")


def never_reads(clients: Clients) -> Behaviour:
    """Asks for a lot and takes none of it; in tcp mode, too."""
    with clients.tls(receive_buffer=4096) as client:
        client.send(get(b"/bulk"))
        yield
        yield from stay(client)


def waits_for_the_backend(clients: Clients) -> Behaviour:
    """Asks for what never comes."""
    with clients.tls() as client:
        client.send(get(b"/stall"))
        yield
        yield from stay(client)


def one_request(clients: Clients) -> Behaviour:
    """Connect, handshake, request, close."""
    with clients.tls() as client:
        client.send(get())
        client.recv(65536)
    yield


def connects_only(clients: Clients) -> Behaviour:
    clients.tcp().close()
    yield


def resets_after_the_handshake(clients: Clients) -> Behaviour:
    with clients.tls() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    yield


KINDS: dict[str, Callable[[Clients], Behaviour]] = {
    each.__name__: each
    for each in (
        slow_handshakes, slow_heads, slow_bodies, idle, idle_after_a_request, tiny_writes, tiny_tcp_writes,
        never_reads, waits_for_the_backend, one_request, connects_only, resets_after_the_handshake,
    )
}  # fmt: skip


class Abuser:
    """Such a process, seen from outside."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def is_ready(self) -> None:
        """Wait until all its clients have begun."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == b"ready\n", "it broke off"

    def leave(self) -> None:
        """Go, and leave to the kernel to close everything."""
        self._process.kill()
        self._process.wait()


@contextmanager
def abuse(kind: str, port: int, count: int, rate: float, before: tuple[str, ...] = ()) -> Iterator[Abuser]:
    """`count` such clients at work in a process of their own, run by the command `before`; at the end they leave."""
    command = (*before, sys.executable, "-m", "lab.abuser", kind, str(port), str(count), str(rate))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as process:
        abuser = Abuser(process)
        try:
            abuser.is_ready()
            yield abuser
        finally:
            abuser.leave()


def _keep(kind: Callable[[Clients], Behaviour], clients: Clients, count: int, rate: float) -> None:
    """Until the input ends."""
    at_work: list[Behaviour] = []
    for _ in range(count):
        at_work.append(kind(clients))
        next(at_work[-1])
    os.write(1, b"ready\n")
    due = time.monotonic()
    for at in itertools.cycle(range(count)):
        due = max(due + 1 / rate, time.monotonic() - 0.05)  # what is late is not made up for in a burst
        if select.select([0], [], [], max(due - time.monotonic(), 0))[0]:
            return
        with suppress(OSError):
            if next(at_work[at], at_work) is not at_work:
                continue
        at_work[at] = kind(clients)
        with suppress(OSError):  # it tries again in its next turn
            next(at_work[at])


def main() -> None:
    kind, port, count, rate = sys.argv[1:]
    clients = Clients(int(port))
    clients.learn()
    _keep(KINDS[kind], clients, int(count), float(rate))


if __name__ == "__main__":
    main()
