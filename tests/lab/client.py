"""A TLS client that can do what `ssl.SSLSocket` cannot: half-close, send bytes of its own choice, break off."""

from __future__ import annotations

import ctypes
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lab.backend import Backend, Peer, read_body
from lab.sidecar import SERVING, Sidecar, any_certificate, free_port, sidecar, wait_until


def _libssl() -> str:
    """The library that this interpreter's `ssl` uses."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libssl" in line:
            return line.split(maxsplit=5)[5]
    raise AssertionError("no libssl is mapped: how was this Python built?")


class Client(Peer):
    """One TLS connection. Inherited methods speak plaintext; `raw` is the socket below."""

    def __init__(
        self,
        port: int,
        context: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
        session: ssl.SSLSession | None = None,
        source: str = "",
        first: bytes = b"",
    ) -> None:
        """`source`: the address to come from; any of 127.0.0.0/8 will do. `first`: bytes to send before TLS."""
        raw = socket.socket()
        if source:
            raw.bind((source, 0))
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        super().__init__(raw)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or any_certificate()).wrap_bio(
            self._in, self._out, server_hostname="localhost", session=session
        )
        try:
            raw.connect(("127.0.0.1", port))
            raw.sendall(first)
            self._until_done(self.tls.do_handshake)
        except BaseException:
            raw.close()
            raise

    @staticmethod
    def hello(
        *protocols: str,
        server_name: str | None = "localhost",
        newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
    ) -> bytes:
        """The first flight of a handshake, which offers these application protocols."""
        context = any_certificate()
        context.maximum_version = newest
        if protocols:
            context.set_alpn_protocols(list(protocols))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing, server_hostname=server_name).do_handshake()
        return outgoing.read()

    def _until_done(self, step):
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self.raw.recv(65536)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except ssl.SSLError as error:
                if error.reason == "UNEXPECTED_EOF_WHILE_READING":  # Python 3.11.2 has no class for it in every case
                    raise ssl.SSLEOFError(str(error)) from error
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self.raw.sendall(self._out.read())

    def key_updates(self, count: int) -> None:
        """
        Send KeyUpdates that ask for one in return (RFC 8446, section 4.6.3); TLS 1.3.

        Python has no call for it, so OpenSSL's is used on the object inside: its pointer is the first field after the
        object's head and its socket, in every CPython so far.
        """
        library = ctypes.CDLL(_libssl())
        pointer = ctypes.c_void_p.from_address(id(self.tls._sslobj) + 3 * ctypes.sizeof(ctypes.c_void_p))
        for _ in range(count):
            assert library.SSL_key_update(pointer, 1) == 1
            assert library.SSL_do_handshake(pointer) == 1
        self._flush()

    def recv(self, size: int = 65536) -> bytes:
        """Empty at the server's close_notify; ssl.SSLEOFError where the stream ends without one."""
        if self._ahead:
            return super().recv(size)
        try:
            data: bytes = self._until_done(lambda: self.tls.read(size))
        except ssl.SSLZeroReturnError:
            return b""
        return data

    def send(self, data: bytes) -> None:
        for at in range(0, len(data), 65536):
            self.tls.write(data[at : at + 65536])
            self._flush()

    def end(self) -> None:
        """close_notify: nothing more to say, but still listening."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def close(self) -> None:
        """In order, as far as the other side still listens."""
        with suppress(OSError):
            self.end()
        self.raw.close()

    def is_cut(self) -> bool:
        """The stream breaks off: a reset, or an end without close_notify."""
        try:
            self.rest()
        except (ConnectionResetError, ssl.SSLEOFError):
            return True
        return False

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        self.send(request)
        return self.answer()

    def answer(self, *, method: bytes = b"GET") -> tuple[int, bytes, bytes]:
        """A response: status, head, body (up to the end of the stream where no length is given)."""
        head = self.head()
        status = int(head.split(b" ", 2)[1])
        lower = head.lower()
        if method == b"HEAD" or status < 200 or status in (204, 304):
            body = b""
        elif b"\r\ncontent-length:" in lower or b"\r\ntransfer-encoding:" in lower:
            body = read_body(self, head)
        else:
            body = self.rest()
        return status, head, body

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def get(path: bytes = b"/", *fields: bytes, method: bytes = b"GET") -> bytes:
    """A request without a body."""
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: localhost", *fields, b"", b""))


def post(body: bytes, path: bytes = b"/", *fields: bytes) -> bytes:
    return get(path, b"Content-Length: %d" % len(body), *fields, method=b"POST") + body


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_ticks(pid: int) -> int:
    """User and system time so far, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def at_rest(running: Sidecar) -> None:
    """Wait until the process waits without work: one that spins never gets there."""
    ticks: list[int] = []

    def resting() -> bool:
        ticks.append(cpu_ticks(running.pid))
        return len(ticks) > 40 and ticks[-1] - ticks[-40] <= 2

    wait_until(resting, "a process at rest")


def memory(pid: int) -> int:
    """Bytes of its own (anonymous) memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


@contextmanager
def relay(target: Backend | int, *flags: str, before: Sequence[str] = (), mortal: bool = False) -> Iterator[Sidecar]:
    """
    A sidecar in front of `target` (a backend or a port) on a loopback port.

    At the end all sockets must be closed again, and the process must end well; `mortal`: the test itself ends it.
    """
    backend_port = target if isinstance(target, int) else target.port
    with sidecar(
        f"--frontend-addr=127.0.0.1:{free_port()}",
        f"--backend-addr=127.0.0.1:{backend_port}",
        *flags,
        before=before,
        ready=None if mortal else SERVING,
    ) as running:
        running.wait_for(SERVING)
        running.idle = open_files(running.pid)
        yield running
        if not mortal:
            nothing_left(running)


def access_lines(running: Sidecar, count: int) -> list[str]:
    """Wait until the access log has that many lines; all of them."""
    return wait_until(
        lambda: list(running.access) if len(running.access) >= count else None, f"{count} lines in {running.access}"
    )


def nothing_left(running: Sidecar) -> None:
    """Wait until the process holds no more files than when it had served nobody."""
    wait_until(
        lambda: open_files(running.pid) <= running.idle, f"back to {running.idle} files, not {open_files(running.pid)}"
    )
