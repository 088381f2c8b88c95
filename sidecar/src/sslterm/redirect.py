"""
Plain HTTP, answered with where HTTPS is; and with what an ACME server asks for to check a name (http-01).

On the control thread, for a few requests now and then: one request for each connection, bounded in size, time and
number, so that whatever comes here costs the relay nothing. What is said to one client is made from its own request
alone, which is read as strictly as the relay's.
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from sslterm.protocol.fields import ProtocolError
from sslterm.protocol.http1 import HeadReader, Request, read_request
from sslterm.relay.listener import shut

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_HEAD: Final = 8192
_TIMEOUT: Final = 5.0
"""Seconds for a connection, from accept to close."""
_MOST: Final = 64
"""Connections at a time; for one more, the oldest is closed."""
_PAUSE: Final = 1.0
"""Seconds until the next try where the process has no file descriptor left."""
_MOST_DISCARDED: Final = 65536
"""Bytes after the head that are read so that the response is not lost to a reset."""
_CHUNK: Final = 8192

_CHALLENGE: Final = "/.well-known/acme-challenge/"
_HOST: Final = re.compile(
    r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{0,5})?"
)
"""A DNS name, an IPv4 address or a bracketed IPv6 one, and the port of plain HTTP, whatever it was published as."""
_PHRASES: Final = {200: "OK", 308: "Permanent Redirect", 400: "Bad Request", 404: "Not Found"}


class Redirect:
    """One listener. `port`: of HTTPS; `answers`: to an ACME server's checks, by token."""

    def __init__(self, listener: socket.socket, port: int, answers: Mapping[str, str]) -> None:
        self._listener = listener
        self._port = port
        self._answers = answers
        self._accepting = anyio.CancelScope()
        self._open: dict[int, anyio.CancelScope] = {}
        """By file descriptor, the oldest first."""

    async def serve(self) -> None:
        """Until `leave`; who had come by then is still answered."""
        with self._listener:
            async with anyio.create_task_group() as tasks:
                with self._accepting:
                    while True:
                        await anyio.wait_readable(self._listener)
                        try:
                            tasks.start_soon(self._answer, self._listener.accept()[0])
                        except BlockingIOError:
                            continue
                        except OSError:  # no descriptor left, mostly
                            await anyio.sleep(_PAUSE)
                with suppress(OSError):
                    for _ in range(_MOST):
                        tasks.start_soon(self._answer, self._listener.accept()[0])

    def leave(self) -> None:
        """Accept no more, once who waits is accepted."""
        self._accepting.cancel()

    def shut(self) -> None:
        """Listen no more, at once: the address can be bound again."""
        shut(self._listener)
        self._accepting.cancel()

    async def _answer(self, client: socket.socket) -> None:
        client.setblocking(False)
        number = client.fileno()
        if len(self._open) >= _MOST:
            oldest = next(iter(self._open))
            self._open.pop(oldest).cancel()
        with client, anyio.move_on_after(_TIMEOUT) as scope, suppress(OSError):
            self._open[number] = scope
            response = await self._read(client)
            if response:
                await _send(client, response)
                client.shutdown(socket.SHUT_WR)
                await _discard(client)
        if self._open.get(number) is scope:
            del self._open[number]

    async def _read(self, client: socket.socket) -> bytes:
        """The response to what the client asks; nothing for one that leaves before it has asked."""
        head = HeadReader(_LONGEST_HEAD)
        try:
            while True:
                data = await _receive(client)
                if not data:
                    return b""
                found = head.feed(data)
                if found is not None:
                    return respond(read_request(found[0], trusted=False), self._port, self._answers)
        except ProtocolError as error:
            return _response(error.status, f"{error}\n")


def respond(request: Request, port: int, answers: Mapping[str, str]) -> bytes:
    """What to say to `request`, where HTTPS is on `port` and these answers to challenges are pending."""
    bodiless = request.method == b"HEAD"
    path = request.line.split(b" ")[1].decode("latin-1")
    if path.startswith(_CHALLENGE):
        answer = answers.get(path.removeprefix(_CHALLENGE))
        if answer is None:
            return _response(404, "no such challenge\n", bodiless=bodiless)
        return _response(200, answer, bodiless=bodiless)
    host = _HOST.fullmatch(request.meaning.host.decode("latin-1"))
    if host is None:
        return _response(400, "the Host header names no host\n", bodiless=bodiless)
    shown = "" if port == 443 else f":{port}"
    path = "".join(each if each.isascii() else f"%{ord(each):02X}" for each in path)
    where = f"https://{host[1]}{shown}{path if path.startswith('/') else '/'}"  # OPTIONS * has no path
    return _response(308, f"{where}\n", f"Location: {where}\r\n", bodiless=bodiless)


def _response(status: int, text: str, fields: str = "", *, bodiless: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n{fields}Content-Type: text/plain\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    return (head + ("" if bodiless else text)).encode("latin-1")


async def _receive(client: socket.socket) -> bytes:
    while True:
        try:
            return client.recv(_CHUNK)
        except BlockingIOError:
            await anyio.wait_readable(client)


async def _send(client: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[client.send(data) :]
        except BlockingIOError:
            await anyio.wait_writable(client)


async def _discard(client: socket.socket) -> None:
    """Read what the client still sends, to its end or up to a point: closing before would reset the connection."""
    left = _MOST_DISCARDED
    while left > 0:
        data = await _receive(client)
        if not data:
            return
        left -= len(data)
