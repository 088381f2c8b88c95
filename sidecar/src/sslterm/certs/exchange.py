"""
One HTTP/1.1 request over a unix socket, and its answer.

Owns the bytes and nothing of their meaning. Strict, and small: the other side is byfahrer's authority, of which one
exact form is expected, and Python's own HTTP client would cost the long-lived process 2 MB. Whatever is odd about an
answer, or about the way to it, is one `Rejected` line; nothing that was sent is ever in it.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from sslterm.certs.bundle import Rejected
from sslterm.waiting import receive, send

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST_HEAD: Final = 16 * 1024
_LARGEST_BODY: Final = 1024 * 1024
"""A chain and a bundle of some dozen roots are 50 KB."""
_CHUNK: Final = 65536

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_SECONDS: Final = re.compile(rb"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    retry_after: float
    """Seconds for which the other side asks to be left alone; 0 if it does not. (It may be a date, too: that is 0.)"""


async def exchange(path: Path, request: bytes, patience: float) -> Answer:
    """Send `request` to the socket at `path`; its answer. Raises `Rejected`, after `patience` seconds at the latest."""
    try:
        with anyio.fail_after(patience), socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            connection.connect(os.fspath(path))
            # It may have answered, and gone, before it took everything: the answer says why.
            with suppress(BrokenPipeError, ConnectionResetError):
                await send(connection, request)
            return await _answer(connection)
    except TimeoutError:
        raise Rejected(f"no answer within {patience:.3g} s") from None
    except OSError as error:
        raise Rejected(_reason(error)) from None


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "there is no such socket (is byfahrer running?)"
    if error.errno == errno.ECONNREFUSED:
        return "nobody answers at the socket (is byfahrer running?)"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"uid {os.geteuid()} may not connect to the socket"
    if error.errno == errno.EAGAIN:
        return "too many wait for it"
    return error.strerror or str(error)


async def _answer(connection: socket.socket) -> Answer:
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > _LARGEST_HEAD:
            raise Rejected(f"the head of the answer is over {_LARGEST_HEAD} bytes")
        more = await _more(connection)
        if not more:
            raise Rejected("the answer broke off within its head" if data else "the connection ended with no answer")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    status, fields = _head(head)
    length = _length(fields)
    body = bytearray(rest)
    while len(body) <= (_LARGEST_BODY if length is None else length):
        more = await _more(connection) if length is None or len(body) < length else b""
        if not more:
            break
        body += more
    if length is None and len(body) > _LARGEST_BODY:
        raise Rejected(f"the answer is over {_LARGEST_BODY} bytes")
    if length is not None and len(body) != length:
        raise Rejected(f"the answer has {'fewer' if len(body) < length else 'more'} bytes than the {length} it says")
    pause = fields.get(b"retry-after", b"")
    return Answer(status, bytes(body), float(pause) if _SECONDS.fullmatch(pause) else 0.0)


async def _more(connection: socket.socket) -> bytes:
    try:
        return await receive(connection, _CHUNK)
    except ConnectionResetError:
        return b""


def _head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise Rejected("the answer is not HTTP/1.1")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise Rejected("the head of the answer has a line that is no field")
        name = found[1].lower()
        if name in fields and name == b"content-length":
            raise Rejected("the answer says its length twice")
        fields[name] = found[2]
    return int(status[1]), fields


def _length(fields: dict[bytes, bytes]) -> int | None:
    """None: the body ends where the connection does."""
    if b"transfer-encoding" in fields:
        raise Rejected("the answer has a Transfer-Encoding, which was not asked for")
    if b"content-length" not in fields:
        return None
    if not _LENGTH.fullmatch(fields[b"content-length"]):
        raise Rejected("the answer's Content-Length is no number")
    length = int(fields[b"content-length"])
    if length > _LARGEST_BODY:
        raise Rejected(f"the answer has {length} bytes, and {_LARGEST_BODY} are the most")
    return length
