"""A backend that does exactly what its script says, however badly: real ones do not misbehave on command."""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lab.sidecar import PATIENCE, wait_until


class Peer:
    """One connection, blocking; every wait ends in an error after `PATIENCE` seconds."""

    def __init__(self, raw: socket.socket) -> None:
        self.raw = raw
        self.raw.settimeout(PATIENCE)
        self._ahead = b""

    def recv(self, size: int = 65536) -> bytes:
        """What comes next; empty at the end."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self.raw.recv(size)

    def until(self, end: bytes) -> bytes:
        """Everything up to `end` and with it."""
        data = b""
        while end not in data:
            more = self.recv()
            if not more:
                raise EOFError(data)
            data += more
        at = data.index(end) + len(end)
        self._ahead = data[at:] + self._ahead
        return data[:at]

    def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.recv(size - len(data))
            if not more:
                raise EOFError(bytes(data))
            data += more
        return bytes(data)

    def rest(self) -> bytes:
        """Everything up to the end."""
        return b"".join(iter(self.recv, b""))

    def head(self) -> bytes:
        return self.until(b"\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.raw.sendall(data)

    def end(self) -> None:
        """FIN: nothing more to say, but still listening."""
        self.raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.close()

    def close(self) -> None:
        self.raw.close()

    def is_cut(self) -> bool:
        """The other side reset the connection."""
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False


Script = Callable[[Peer], None]


class Backend:
    """Listens on a loopback port; each connection is one run of the script, on a thread of its own."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.failures: list[Exception] = []
        self.seen: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        """For a script to tell the test what it saw."""
        self._turn = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                self.accepted += 1
                thread = threading.Thread(target=self._run, args=(Peer(raw),), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, peer: Peer) -> None:
        with peer.raw:
            try:
                self._script(peer)
            except (EOFError, ConnectionError):
                pass  # the other side went away: for the test to judge
            except Exception as error:  # noqa: BLE001 - any fault of a script fails its test
                self.failures.append(error)

    def sees(self) -> bytes:
        """For the test: what the script saw."""
        return self.seen.get(timeout=PATIENCE)

    def go_on(self) -> None:
        """For the test: let a script pass its `wait`."""
        self._turn.release()

    def wait(self) -> None:
        """For a script: until the test says `go_on`."""
        assert self._turn.acquire(timeout=PATIENCE)

    def stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(PATIENCE)
        self._listener.close()

    def finish(self) -> None:
        self.stop_listening()
        wait_until(lambda: not any(each.is_alive() for each in self._threads), "the end of every backend connection")
        assert not self.failures, self.failures


@contextmanager
def backend(script: Script, port: int = 0) -> Iterator[Backend]:
    """A backend with this script; at the end its connections must be at their end, too."""
    running = Backend(script, port)
    try:
        yield running
    except BaseException:
        running.stop_listening()
        raise
    running.finish()


def body_length(head: bytes) -> int | None:
    """Content-Length; None if the body is chunked."""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        return None
    return int(lower.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)


def read_body(peer: Peer, head: bytes) -> bytes:
    """The body of a message with this head."""
    length = body_length(head)
    if length is not None:
        return peer.exactly(length)
    body = bytearray()
    while size := int(peer.until(b"\r\n"), 16):
        body += peer.exactly(size)
        assert peer.exactly(2) == b"\r\n"
    while peer.until(b"\r\n") != b"\r\n":
        pass
    return bytes(body)


def ok(body: bytes = b"ok", *fields: bytes) -> bytes:
    """A response with this body."""
    return b"\r\n".join((b"HTTP/1.1 200 OK", *fields, b"Content-Length: %d" % len(body), b"", body))


def echo_requests(peer: Peer) -> None:
    """A well-behaved HTTP server: answers each request with its own method, target and body."""
    while True:
        head = peer.head()
        body = read_body(peer, head)
        peer.send(ok(b" ".join(head.split(b" ")[:2]) + b" " + body))


def echo(peer: Peer) -> None:
    """Sends back whatever comes, and ends when it does."""
    while data := peer.recv():
        peer.send(data)
