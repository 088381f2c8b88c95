"""
The chunked transfer coding (RFC 9112, section 7.1), read strictly and written anew.

What is forwarded is never the peer's own framing: sizes are written in one canonical form, chunk extensions are dropped
(a recipient must ignore those that it does not know), and trailers are checked like header fields. So nothing that two
readers could take differently passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from sslterm.protocol.fields import ProtocolError, check_trailer

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_CRLF: Final = memoryview(b"\r\n")
_LONGEST_SIZE_LINE: Final = 256  # Go allows 4 KiB; extensions are not in use anywhere that we know of
_EXTENSIONS: Final = 16384  # over a whole body: more is an attack on the reader's time (CVE-2023-39326)

_State = Callable[["ChunkedBody", memoryview, "list[bytes | memoryview]"], int]


class ChunkedBody:
    """Reads one chunked body. `limit`: most bytes of trailers."""

    __slots__ = ("_excess", "_limit", "_line", "_plain", "_remaining", "_state", "done", "received")

    def __init__(self, limit: int, *, plain: bool = False) -> None:
        """`plain`: hand out the content alone, for a peer that does not know the coding (HTTP/1.0)."""
        # A plain function, not a bound method: see `http_flow`.
        self._state: _State = ChunkedBody._size
        self._line = b""
        self._remaining = 0
        self._limit = limit
        self._plain = plain
        self._excess = 0
        self.done = False
        self.received = 0
        """Bytes of content seen so far, without the framing."""

    def feed(self, data: memoryview) -> tuple[bytes, int]:
        """
        What to forward, and how many bytes of `data` belonged to the body.

        Raises ProtocolError(400) for framing that is not exactly right.
        """
        out: list[bytes | memoryview] = []
        used = 0
        while used < len(data) and not self.done:
            if self._state is ChunkedBody._size and not self._line:
                used = self._whole_chunks(data, used, out)
            used += self._state(self, data[used:], out)
        return b"".join(out), used

    def _whole_chunks(self, data: memoryview, begin: int, out: list[bytes | memoryview]) -> int:
        """
        Take the chunks that are there as a whole and without extensions; where they end.

        All others go through the states below, at 4 times the cost: with chunks of one byte, 1 MB/s would keep a core
        busy.
        """
        at = begin
        while (found := _PLAIN_SIZE.match(data, at)) is not None:
            written = found[1]
            size = int(written, 16)
            content = found.end()
            end = content + size
            if not size or data[end : end + 2] != _CRLF:
                break
            if self._plain:
                out.append(data[content:end])
            elif written != b"%x" % size:
                out += (data[begin:at], b"%x\r\n" % size)
                begin = content
            self.received += size
            at = end + 2
        if at > begin and not self._plain:
            out.append(data[begin:at])
        return at

    def _take_line(self, data: memoryview, longest: int) -> tuple[bytes | None, int]:
        """The next line without its CRLF, or None if it is not all there; and the bytes used."""
        held = len(self._line)
        line = self._line + bytes(data[: longest + 2 - held])
        end = line.find(b"\n", max(held - 1, 0))
        if end < 0:
            if len(line) > longest + 1:
                raise ProtocolError(400, "a line of chunked framing is too long")
            self._line = line
            return None, len(line) - held
        self._line = b""
        if end == 0 or line[end - 1] != 0x0D:
            raise ProtocolError(400, "a bare LF in chunked framing")
        return line[: end - 1], end + 1 - held

    def _size(self, data: memoryview, out: list[bytes | memoryview]) -> int:
        line, used = self._take_line(data, _LONGEST_SIZE_LINE)
        if line is None:
            return used
        found = _SIZE.fullmatch(line)
        if found is None:
            raise ProtocolError(400, "a chunk size that is none")
        self._excess += len(line) - len(found[1])
        if self._excess > _EXTENSIONS:
            raise ProtocolError(400, "too many chunk extensions")
        self._remaining = int(found[1], 16)
        if not self._plain:
            out.append(b"%x\r\n" % self._remaining)
        self._state = ChunkedBody._content if self._remaining else ChunkedBody._trailer
        return used

    def _content(self, data: memoryview, out: list[bytes | memoryview]) -> int:
        used = min(len(data), self._remaining)
        out.append(data[:used])
        self._remaining -= used
        self.received += used
        if not self._remaining:
            self._state = ChunkedBody._content_end
        return used

    def _content_end(self, data: memoryview, out: list[bytes | memoryview]) -> int:
        line, used = self._take_line(data, 0)
        if line is not None:
            if not self._plain:
                out.append(b"\r\n")
            self._state = ChunkedBody._size
        return used

    def _trailer(self, data: memoryview, out: list[bytes | memoryview]) -> int:
        line, used = self._take_line(data, self._limit)
        if line is None:
            return used
        self._limit -= len(line) + 2
        if line and self._limit < 0:
            raise ProtocolError(431, "trailers are too long")
        if line and not check_trailer(line):
            return used
        if not self._plain:
            out.append(line + b"\r\n")
        self.done = not line
        return used
