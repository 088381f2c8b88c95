"""
HTTP/1.1 heads: read strictly, and written anew for the other side.

`read_request` and `read_response` take one whole head (found by `HeadReader`) and answer with what a relay must know of
it: where the body ends, whether the connection persists, and the head to forward. What two readers could understand
differently is refused with a ProtocolError (RFC 9112 section 11.2, request smuggling): better a refused request than
one that hides another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sslterm.protocol.fields import SPECIAL, TOKEN, Kind, ProtocolError, field_name, split_lines

CHUNKED: Final = -1
"""A body length: the chunked coding says where it ends."""
UNTIL_CLOSE: Final = -2
"""A body length: the body ends with the connection."""

_REQUEST_LINE = re.compile(rb"([%s]{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])" % re.escape(TOKEN))
_OTHER_VERSION = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/(?!1\.[01])[0-9](?:\.[0-9])?")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^:/?#@][^/?#@]*)([/?].*)?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%\x80-\xff-]*)(?::([0-9]{0,5}))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")

_END = b"\r\n\r\n"
_NOT_TUNNELLED = (b"h2c", b"h2", b"http/", b"tls/")
"""
Upgrades that are never forwarded: the backend would read a second protocol on the connection whose requests nobody
checks (h2c smuggling), or encryption inside the tunnel (RFC 2817).
"""


class HeadReader:
    """Collects bytes until a head is whole. `limit`: the longest head, in bytes."""

    __slots__ = ("_buffer", "_limit", "_scanned", "_skipped")

    def __init__(self, limit: int) -> None:
        self._buffer = b""
        self._limit = limit
        self._scanned = 0
        self._skipped = False

    @property
    def started(self) -> bool:
        """Part of a head is there."""
        return bool(self._buffer)

    def feed(self, data: bytes | memoryview) -> tuple[bytes, bytes] | None:
        """A whole head (with the CRLF of its last line, without the empty one) and what follows it; None: need more."""
        begin = len(self._buffer)
        buffer = self._buffer + data if begin else bytes(data)
        if buffer.startswith((b"\r", b"\n")):
            # An empty line before a message is to be ignored (RFC 9112, section 2.2): one, and nothing else is.
            if buffer.startswith(b"\r\n") and not self._skipped:
                self._skipped = True
                buffer = buffer[2:]
            if buffer.startswith((b"\r", b"\n")) and (self._skipped or buffer != b"\r"):
                raise ProtocolError(400, "more than an empty line before a message")
            self._scanned = begin = 0
        end = buffer.find(_END, self._scanned)
        if end < 0:
            if len(buffer) > self._limit + 3:  # the first three bytes of the end may be there
                raise ProtocolError(431, f"a head of more than {self._limit} bytes")
            if buffer.count(b"\n", begin) != buffer.count(b"\r\n", max(0, begin - 1)):
                raise ProtocolError(400, "a bare LF in a head")
            self._buffer = buffer
            self._scanned = max(0, len(buffer) - 3)
            return None
        if end > self._limit:
            raise ProtocolError(431, f"a head of more than {self._limit} bytes")
        self._buffer = b""
        self._scanned = 0
        self._skipped = False
        return buffer[: end + 2], buffer[end + 4 :]


@dataclass(slots=True)
class Request:
    """What a relay must know of a request."""

    method: bytes
    target: bytes
    """As the client wrote it, for the log."""
    minor: int
    """HTTP/1.`minor`."""
    length: int
    """Bytes of body, or CHUNKED."""
    persists: bool
    """The client is willing to send another request on this connection."""
    upgrade: bool
    trailers: bool
    """The client takes trailers (TE)."""
    host: bytes
    port: bytes
    """
    The port that the client wrote in Host, or 443, which goes unwritten: only the client knows the port that a
    container's engine publishes.
    """
    forwarded_for: bytes
    """X-Forwarded-For as received from a trusted peer; else empty."""
    forwarded: frozenset[bytes]
    """Names of the X-Forwarded-* fields that were kept, because a trusted peer sent them."""
    lines: list[bytes]
    """The head to forward, without Connection and without what the relay says of the client."""


@dataclass(slots=True)
class Response:
    """What a relay must know of a response."""

    status: int
    length: int
    """Bytes of body, CHUNKED or UNTIL_CLOSE."""
    persists: bool
    """The backend is willing to take another request on this connection."""
    lines: list[bytes]
    """The head to forward, without Connection."""


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token for value in values for part in value.split(b",") if (token := part.strip(b" \t").lower())}


def _persists(minor: int, connection: set[bytes]) -> bool:
    """Whether the sender of these connection options will go on with the connection (RFC 9112, section 9.3)."""
    return b"close" not in connection and (minor == 1 or b"keep-alive" in connection)


class _Fields:
    """One pass over the field lines of a head: the special ones taken aside, the others kept as they are."""

    __slots__ = (
        "coding", "connection", "expect", "forwarded", "forwarded_for", "hosts", "kept", "lengths", "te", "upgrade",
    )  # fmt: skip

    def __init__(self, lines: list[bytes], *, trusted: bool) -> None:
        self.kept: list[bytes] = []
        self.hosts: list[bytes] = []
        self.lengths: list[bytes] = []
        self.coding: list[bytes] = []
        self.connection: list[bytes] = []
        self.upgrade: list[bytes] = []
        self.expect: list[bytes] = []
        self.te: list[bytes] = []
        self.forwarded_for: list[bytes] = []
        self.forwarded: set[bytes] = set()
        keep = self.kept.append
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ProtocolError(400, "a header line without a colon")
            lower = field_name(name)
            kind = SPECIAL.get(lower)
            if kind is None:
                keep(line)
                continue
            value = value.strip(b" \t")
            if kind == Kind.HOST:
                self.hosts.append(value)
            elif kind == Kind.LENGTH:
                self.lengths.append(value)
            elif kind == Kind.CODING:
                self.coding.append(value)
            elif kind == Kind.CONNECTION:
                self.connection.append(value)
            elif kind == Kind.UPGRADE:
                self.upgrade.append(value)
            elif kind == Kind.EXPECT:
                self.expect.append(value)
            elif kind == Kind.TE:
                self.te.append(value)
            elif trusted and kind == Kind.FORWARDED_FOR:
                self.forwarded_for.append(value)
            elif trusted and kind == Kind.FORWARDED:
                self.forwarded.add(lower)
                keep(line)

    def framing(self) -> int | None:
        """Bytes of body as Content-Length says, CHUNKED, or None if nothing says it (RFC 9112, section 6.3)."""
        if self.coding:
            if self.lengths:
                raise ProtocolError(400, "both Transfer-Encoding and Content-Length")
            if len(self.coding) > 1 or self.coding[0].lower() != b"chunked":
                raise ProtocolError(501, "a Transfer-Encoding other than chunked")
            return CHUNKED
        if not self.lengths:
            return None
        if len(self.lengths) > 1 or not _LENGTH.fullmatch(self.lengths[0]):
            raise ProtocolError(400, "a Content-Length that is not one plain number")
        return int(self.lengths[0])

    def without(self, nominated: set[bytes]) -> list[bytes]:
        """The kept lines less those that Connection nominates as concerning this connection only."""
        hop = nominated - {b"close", b"keep-alive", b"upgrade", b"te"} - SPECIAL.keys()
        if not hop:
            return self.kept
        return [line for line in self.kept if line.partition(b":")[0].lower() not in hop]


def _target_and_host(method: bytes, target: bytes, fields: _Fields, minor: int) -> tuple[bytes, bytes, bytes]:
    """The request target in origin form, and the host that it is for, and its port (RFC 9112, section 3.2)."""
    if len(fields.hosts) > 1 or (minor == 1 and not fields.hosts):
        raise ProtocolError(400, "not exactly one Host")
    host = fields.hosts[0] if fields.hosts else b""
    if method == b"CONNECT":  # in whatever form: a backend that knows it takes what follows for a tunnel
        raise ProtocolError(501, "CONNECT: this is not a forward proxy")
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is not None:
            # Absolute form overrides Host; forwarded in origin form so that the backend cannot see two hosts.
            host = absolute[1]
            target = absolute[2] or (b"*" if method == b"OPTIONS" else b"/")  # RFC 9112, section 3.2.4
            if target.startswith(b"?"):
                target = b"/" + target
        elif not (method == b"OPTIONS" and target == b"*"):
            raise ProtocolError(400, "a request target that is none")
    found = _HOST.fullmatch(host)
    if found is None:
        raise ProtocolError(400, "a Host that is none")
    return target, host, found[1] or b"443"


def read_request(head: bytes, *, trusted: bool) -> Request:
    """
    A request from its head. `trusted`: the peer may say for whom it forwards.

    Raises ProtocolError with the status to answer: 400, 417, 501 or 505.
    """
    lines = split_lines(head[:-2])
    found = _REQUEST_LINE.fullmatch(lines[0])
    if found is None:
        if _OTHER_VERSION.fullmatch(lines[0]):
            raise ProtocolError(505, "a version other than HTTP/1.0 and HTTP/1.1")
        raise ProtocolError(400, "a request line that is none")
    method, target, version = found.groups()
    minor = version[0] - 48
    fields = _Fields(lines[1:], trusted=trusted)
    length = fields.framing()
    if length == CHUNKED and not minor:
        raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0")
    origin, host, port = _target_and_host(method, target, fields, minor)
    connection = _tokens(fields.connection)

    out = [b"%b %b HTTP/1.%d" % (method, origin, minor)]
    if host or fields.hosts:
        out.append(b"Host: " + host)
    out += fields.without(connection)
    if length == CHUNKED:
        out.append(b"Transfer-Encoding: chunked")
    elif length is not None:
        out.append(b"Content-Length: %d" % length)
    if fields.expect and minor:
        if [value.lower() for value in fields.expect] != [b"100-continue"]:
            raise ProtocolError(417, "an Expect other than 100-continue")
        out.append(b"Expect: 100-continue")
    # Not with a body: some readers take what follows the head for the other protocol already (httptools does).
    upgrade = bool(minor and not length and fields.upgrade and b"upgrade" in connection)
    if upgrade and any(token.startswith(_NOT_TUNNELLED) for token in _tokens(fields.upgrade)):
        upgrade = False
    if upgrade:
        out.append(b"Upgrade: " + b", ".join(fields.upgrade))
    return Request(
        method=method,
        target=target,
        minor=minor,
        length=length or 0,
        persists=_persists(minor, connection),
        upgrade=upgrade,
        trailers=minor == 1 and b"trailers" in _tokens(fields.te),
        host=host,
        port=port,
        forwarded_for=b", ".join(fields.forwarded_for),
        forwarded=frozenset(fields.forwarded),
        lines=out,
    )


def read_response(head: bytes, method: bytes) -> Response:
    """A response from its head; `method`: of the request that it answers. ProtocolError is the backend's fault."""
    lines = split_lines(head[:-2])
    found = _STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise ProtocolError(502, "a status line that is none")
    status = int(found[2])
    minor = found[1][0] - 48
    fields = _Fields(lines[1:], trusted=True)
    length = fields.framing()
    if length == CHUNKED and not minor:
        raise ProtocolError(502, "Transfer-Encoding in HTTP/1.0")
    connection = _tokens(fields.connection)

    out = [b"HTTP/1.1" + lines[0][8:]]
    out += fields.without(connection)
    bodiless = status < 200 or status in (204, 304)
    if length == CHUNKED and not bodiless:
        out.append(b"Transfer-Encoding: chunked")
    elif length is not None and length >= 0 and not (status < 200 or status == 204):
        out.append(b"Content-Length: %d" % length)
    if fields.upgrade and status in (101, 426):  # elsewhere it offers what is never forwarded: Apache's "h2,h2c"
        out.append(b"Upgrade: " + b", ".join(fields.upgrade))
    if bodiless or method == b"HEAD":
        length = 0
    elif length is None:
        length = UNTIL_CLOSE
    out += [b"X-Forwarded-For: " + value for value in fields.forwarded_for]
    return Response(
        status=status,
        length=length,
        persists=length != UNTIL_CLOSE and _persists(minor, connection),
        lines=out,
    )
