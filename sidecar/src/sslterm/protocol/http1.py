"""
HTTP/1.1 heads: read strictly, and written anew for the other side.

`read_request` and `read_response` take one whole head (found by `HeadReader`) and answer with what a relay must know of
it: where the body ends, whether the connection persists, and the head to forward. What two readers could understand
differently is refused with a ProtocolError (RFC 9112 section 11.2, request smuggling): better a refused request than
one that hides another.

The field lines of one client's requests are mostly the same from one to the next, and so are the heads of answers
within a second. What was read of them is therefore remembered by the very bytes, for a bounded number of short ones: a
third of the work of a request. Nothing is remembered of what was refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeVar

from sslterm.protocol.fields import KINDS, SPECIAL, TOKEN, Kind, ProtocolError, field_name, kind_of, split_lines

CHUNKED: Final = -1
"""A body length: the chunked coding says where it ends."""
UNTIL_CLOSE: Final = -2
"""A body length: the body ends with the connection."""

_REQUEST_LINE = re.compile(rb"([%s]{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])\r\n" % re.escape(TOKEN))
_OTHER_VERSION = re.compile(rb"[!-~]+ [!-~\x80-\xff]+ HTTP/(?!1\.[01]\r)[0-9](?:\.[0-9])?\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^:/?#@][^/?#@]*)([/?].*)?")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%\x80-\xff-]*)(?::([0-9]{0,5}))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")

_END = b"\r\n\r\n"
_SLASH = ord("/")
_EMPTY_LINE = frozenset(b"\r\n")
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
        if buffer and not begin and buffer[0] not in _EMPTY_LINE:  # nearly always: a head, and all of it
            end = buffer.find(_END)
            if 0 <= end <= self._limit:
                self._skipped = False
                return buffer[: end + 2], buffer[end + 4 :]
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


class Fields(NamedTuple):
    """What the field lines of a request say. Shared by all requests that have these very lines."""

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
    lines: bytes
    """The field lines to forward, each with its CRLF: all but what concerns this connection only."""
    about: bytes
    """The field lines to add: what this connection says of itself and, but for its address, of the client."""


class Request(NamedTuple):
    """What a relay must know of a request."""

    method: bytes
    target: bytes
    """As the client wrote it, for the log."""
    minor: int
    """HTTP/1.`minor`."""
    line: bytes
    """The request line to forward, with its CRLF."""
    fields: Fields


class Response(NamedTuple):
    """What a relay must know of a response."""

    status: int
    length: int
    """Bytes of body, CHUNKED or UNTIL_CLOSE."""
    persists: bool
    """The backend is willing to take another request on this connection."""
    head: bytes
    """The head to forward, without Connection; each line with its CRLF, but not yet the empty one."""


_MOST_REMEMBERED: Final = 128
_LONGEST_REMEMBERED: Final = 2048
"""Bytes: with what is made of them, half a megabyte in all."""
_REQUESTS: Final[dict[bytes, Fields]] = {}
_TRUSTED_REQUESTS: Final[dict[bytes, Fields]] = {}
_RESPONSES: Final[dict[bytes, Response]] = {}

T = TypeVar("T")


def _remember(memory: dict[bytes, T], key: bytes, value: T) -> None:
    if len(key) <= _LONGEST_REMEMBERED:
        if len(memory) >= _MOST_REMEMBERED:
            memory.clear()  # those in use are soon back
        memory[key] = value


def _tokens(values: list[bytes]) -> set[bytes]:
    return {token for value in values for part in value.split(b",") if (token := part.strip(b" \t").lower())}


def _persists(minor: int, connection: set[bytes]) -> bool:
    """Whether the sender of these connection options will go on with the connection (RFC 9112, section 9.3)."""
    return b"close" not in connection and (minor == 1 or b"keep-alive" in connection)


_PLAIN: Final = int(Kind.PLAIN)
_FORWARDED_FOR: Final = int(Kind.FORWARDED_FOR)
_FORWARDED: Final = int(Kind.FORWARDED)
_NONE: Final[list[bytes]] = []
_NO_OPTIONS: Final[set[bytes]] = set()
_OWN_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


class _Lines:
    """One pass over field lines: the special ones taken aside by kind, the others kept as they are."""

    __slots__ = ("_special", "connection", "forwarded", "kept")

    def __init__(self, lines: list[bytes], *, trusted: bool) -> None:
        self.kept: list[bytes] = []
        self.forwarded: set[bytes] = set()
        self._special: dict[int, list[bytes]] = {}
        keep, kinds = self.kept.append, KINDS
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon:
                raise ProtocolError(400, "a header line without a colon")
            kind = kinds.get(name)
            if kind is None:
                kind = kind_of(name)
            if kind == _PLAIN:
                keep(line)
            elif kind < _FORWARDED_FOR or (trusted and kind == _FORWARDED_FOR):
                self._special.setdefault(kind, []).append(value.strip(b" \t"))
            elif trusted and kind == _FORWARDED:
                self.forwarded.add(field_name(name))
                keep(line)
        connection = self.all(Kind.CONNECTION)
        self.connection = _tokens(connection) if connection else _NO_OPTIONS
        if self.connection:
            # Less those that Connection nominates as concerning this connection only.
            hop = self.connection - _OWN_OPTIONS - SPECIAL.keys()
            if hop:
                self.kept = [line for line in self.kept if line.partition(b":")[0].lower() not in hop]

    def all(self, kind: Kind) -> list[bytes]:
        """The values of that kind, in order."""
        return self._special.get(kind, _NONE)

    def framing(self) -> int | None:
        """Bytes of body as Content-Length says, CHUNKED, or None if nothing says it (RFC 9112, section 6.3)."""
        coding, lengths = self.all(Kind.CODING), self.all(Kind.LENGTH)
        if coding:
            if lengths:
                raise ProtocolError(400, "both Transfer-Encoding and Content-Length")
            if len(coding) > 1 or coding[0].lower() != b"chunked":
                raise ProtocolError(501, "a Transfer-Encoding other than chunked")
            return CHUNKED
        if not lengths:
            return None
        if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise ProtocolError(400, "a Content-Length that is not one plain number")
        return int(lengths[0])


def _port(host: bytes) -> bytes:
    """The port in a Host, or 443; ProtocolError for a host that is none (RFC 9112, section 3.2)."""
    found = _HOST.fullmatch(host)
    if found is None:
        raise ProtocolError(400, "a Host that is none")
    return found[1] or b"443"


def _read_fields(block: bytes, minor: int, *, trusted: bool) -> Fields:
    """`block`: the field lines of a request of HTTP/1.`minor`, each with its CRLF."""
    lines = _Lines(split_lines(block[:-2]) if block else [], trusted=trusted)
    length = lines.framing()
    if length == CHUNKED and not minor:
        raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0")
    hosts = lines.all(Kind.HOST)
    if len(hosts) > 1 or (minor == 1 and not hosts):
        raise ProtocolError(400, "not exactly one Host")
    host = hosts[0] if hosts else b""
    out = [b"Host: " + host] if hosts else []
    out += lines.kept
    if length == CHUNKED:
        out.append(b"Transfer-Encoding: chunked")
    elif length is not None:
        out.append(b"Content-Length: %d" % length)
    expect = lines.all(Kind.EXPECT)
    if expect and minor:
        if [value.lower() for value in expect] != [b"100-continue"]:
            raise ProtocolError(417, "an Expect other than 100-continue")
        out.append(b"Expect: 100-continue")
    offered = lines.all(Kind.UPGRADE)
    # Not with a body: some readers take what follows the head for the other protocol already (httptools does).
    upgrade = bool(minor and not length and offered and b"upgrade" in lines.connection)
    if upgrade and any(token.startswith(_NOT_TUNNELLED) for token in _tokens(offered)):
        upgrade = False
    if upgrade:
        out.append(b"Upgrade: " + b", ".join(offered))
    out.append(b"")
    te = lines.all(Kind.TE)
    trailers = minor == 1 and bool(te) and b"trailers" in _tokens(te)
    persists = _persists(minor, lines.connection)
    port = _port(host)
    return Fields(
        length=length or 0,
        persists=persists,
        upgrade=upgrade,
        trailers=trailers,
        host=host,
        port=port,
        forwarded_for=b", ".join(lines.all(Kind.FORWARDED_FOR)),
        forwarded=frozenset(lines.forwarded),
        lines=b"\r\n".join(out),
        about=_forwarded(host, port, lines.forwarded)
        + _connection(minor, persists=persists, upgrade=upgrade, trailers=trailers),
    )


def _connection(minor: int, *, persists: bool, upgrade: bool, trailers: bool) -> bytes:
    """What the connection to the backend says of itself."""
    options = []
    if upgrade:
        options.append(b"Upgrade")
    elif not persists:
        options.append(b"close")
    elif not minor:
        options.append(b"keep-alive")
    if not trailers:
        return b"Connection: %b\r\n" % options[0] if options else b""
    # One goes with the other (RFC 9110, section 10.1.4).
    return b"TE: trailers\r\nConnection: %b\r\n" % b", ".join((*options, b"TE"))


def _forwarded(host: bytes, port: bytes, said: frozenset[bytes] | set[bytes]) -> bytes:
    """What is said of how the client called, but for what a trusted peer has `said`."""
    proto = b"" if b"x-forwarded-proto" in said else b"X-Forwarded-Proto: https\r\n"
    called = b"" if b"x-forwarded-host" in said or not host else b"X-Forwarded-Host: %b\r\n" % host
    return proto + called + (b"" if b"x-forwarded-port" in said else b"X-Forwarded-Port: %b\r\n" % port)


def _at_host(fields: Fields, host: bytes, minor: int) -> Fields:
    """The same for another host: what the absolute form says of it overrides Host (RFC 9112, section 3.2.2)."""
    lines = fields.lines
    if lines.startswith(b"Host: "):
        lines = lines[lines.index(b"\r\n") + 2 :]
    port = _port(host)
    about = _forwarded(host, port, fields.forwarded) + _connection(
        minor, persists=fields.persists, upgrade=fields.upgrade, trailers=fields.trailers
    )
    return fields._replace(host=host, port=port, lines=b"Host: %b\r\n%b" % (host, lines), about=about)


def read_request(head: bytes, *, trusted: bool) -> Request:
    """
    A request from its head. `trusted`: the peer may say for whom it forwards.

    Raises ProtocolError with the status to answer: 400, 417, 501 or 505.
    """
    begin = head.find(b"\r\n") + 2
    line, block = head[:begin], head[begin:]
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        split_lines(head[:-2])  # a bare LF further down is told first, as it is where the head comes in pieces
        if _OTHER_VERSION.fullmatch(line):
            raise ProtocolError(505, "a version other than HTTP/1.0 and HTTP/1.1")
        raise ProtocolError(400, "a request line that is none")
    method, target, version = found.groups()
    if version == b"1":
        minor = 1
        memory = _TRUSTED_REQUESTS if trusted else _REQUESTS
        fields = memory.get(block)
        if fields is None:
            fields = _read_fields(block, 1, trusted=trusted)
            _remember(memory, block, fields)
    else:
        minor = 0
        fields = _read_fields(block, 0, trusted=trusted)
    if method == b"CONNECT":  # in whatever form: a backend that knows it takes what follows for a tunnel
        raise ProtocolError(501, "CONNECT: this is not a forward proxy")
    if target[0] == _SLASH:
        return Request(method, target, minor, line, fields)
    origin = target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        # Forwarded in origin form so that the backend cannot see two hosts.
        fields = _at_host(fields, absolute[1], minor)
        origin = absolute[2] or (b"*" if method == b"OPTIONS" else b"/")  # RFC 9112, section 3.2.4
        if origin.startswith(b"?"):
            origin = b"/" + origin
    elif not (method == b"OPTIONS" and target == b"*"):
        raise ProtocolError(400, "a request target that is none")
    return Request(method, target, minor, b"%b %b HTTP/1.%d\r\n" % (method, origin, minor), fields)


def read_response(head: bytes, method: bytes) -> Response:
    """A response from its head; `method`: of the request that it answers. ProtocolError is the backend's fault."""
    if method == b"HEAD":
        return _read_response(head, bodiless=True)
    response = _RESPONSES.get(head)
    if response is None:
        response = _read_response(head, bodiless=False)
        _remember(_RESPONSES, head, response)
    return response


def _read_response(head: bytes, *, bodiless: bool) -> Response:
    lines = split_lines(head[:-2])
    found = _STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise ProtocolError(502, "a status line that is none")
    status = int(found[2])
    minor = found[1][0] - 48
    fields = _Lines(lines[1:], trusted=True)
    length = fields.framing()
    if length == CHUNKED and not minor:
        raise ProtocolError(502, "Transfer-Encoding in HTTP/1.0")

    out = [b"HTTP/1.1" + lines[0][8:]]
    out += fields.kept
    never = status < 200 or status in (204, 304)
    if length == CHUNKED and not never:
        out.append(b"Transfer-Encoding: chunked")
    elif length is not None and length >= 0 and not (status < 200 or status == 204):
        out.append(b"Content-Length: %d" % length)
    upgrade = fields.all(Kind.UPGRADE)
    if upgrade and status in (101, 426):  # elsewhere it offers what is never forwarded: Apache's "h2,h2c"
        out.append(b"Upgrade: " + b", ".join(upgrade))
    if never or bodiless:
        length = 0
    elif length is None:
        length = UNTIL_CLOSE
    out += [b"X-Forwarded-For: " + value for value in fields.all(Kind.FORWARDED_FOR)]
    out.append(b"")
    return Response(
        status=status,
        length=length,
        persists=length != UNTIL_CLOSE and _persists(minor, fields.connection),
        head=b"\r\n".join(out),
    )
