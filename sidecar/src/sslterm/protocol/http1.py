"""
HTTP/1.1 heads: read strictly, and written anew for the other side.

`read_request` and `read_response` take one whole head (found by `HeadReader`) and answer with what a relay must know of
it: where the body ends, whether the connection persists, and the head to forward. What two readers could understand
differently is refused with a ProtocolError (RFC 9112 section 11.2, request smuggling): better a refused request than
one that hides another.

Field lines are mostly the same from one head to the next: what was found of a line is remembered by its very bytes, and
so is what the special lines of a head come to. Both are bounded, hold nothing that was refused, and no cookies.

Long, because requests and responses share the sorting of field lines, and what is refused of either should be read in
one place.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeVar

from sslterm.protocol.fields import SPECIAL, TOKEN, Kind, ProtocolError, check_characters, field_name, kind_of

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


class Meaning(NamedTuple):
    """What the special field lines of a request come to. Shared by all requests that have these very lines."""

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
    hop: frozenset[bytes]
    """Further fields that concern this connection only, as Connection says."""
    named: bytes
    """The Host line to forward."""
    framed: bytes
    """The lines to forward besides: framing, Expect, Upgrade."""
    called: bytes
    """What is said of how the client called: host, port, protocol."""
    options: bytes
    """What the connection to the backend says of itself."""


class Request(NamedTuple):
    """What a relay must know of a request."""

    method: bytes
    target: bytes
    """As the client wrote it, for the log."""
    minor: int
    """HTTP/1.`minor`."""
    line: bytes
    """The request line to forward, with its CRLF."""
    lines: bytes
    """The field lines to forward that mean nothing to a relay, each with its CRLF."""
    meaning: Meaning
    forwarded_for: bytes
    """X-Forwarded-For as received from a trusted peer; else empty."""
    forwarded: frozenset[bytes]
    """Names of the X-Forwarded-* fields among `lines`, because a trusted peer sent them."""


class Response(NamedTuple):
    """What a relay must know of a response."""

    status: int
    length: int
    """Bytes of body, CHUNKED or UNTIL_CLOSE."""
    persists: bool
    """The backend is willing to take another request on this connection."""
    head: bytes
    """The head to forward, without Connection; each line with its CRLF, but not yet the empty one."""


class _Outline(NamedTuple):
    """What the status line and the special field lines of a response come to."""

    status: int
    length: int
    persists: bool
    hop: frozenset[bytes]
    line: bytes
    framed: bytes


_LINES: Final[dict[bytes, int]] = {}
"""Field lines that were found sound, to their kinds."""
_MEANINGS: Final[dict[bytes, Meaning]] = {}
_OUTLINES: Final[dict[bytes, _Outline]] = {}
_MOST_REMEMBERED: Final = 512
_LONGEST_REMEMBERED: Final = 256
"""Bytes. With what is made of them, a megabyte in all at the worst."""
_SECRET: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"})
"""Not remembered beyond their own request."""

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
_NOTHING: Final[frozenset[bytes]] = frozenset()
_OWN_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te"})


def _kind_of_line(line: bytes) -> int:
    """The kind of a field line that was not seen before; ProtocolError if it is malformed."""
    name, colon, _ = line.partition(b":")
    if not colon:
        raise ProtocolError(400, "a header line without a colon")
    kind = int(kind_of(name))
    check_characters(line)
    if name.lower() not in _SECRET:
        _remember(_LINES, line, kind)
    return kind


class _Sorted:
    """Field lines: those that mean something to a relay taken aside, the others kept as they are."""

    __slots__ = ("forwarded", "forwarded_for", "kept", "special")

    def __init__(self, lines: list[bytes], *, trusted: bool) -> None:
        self.kept: list[bytes] = []
        self.special: list[bytes] = []
        self.forwarded: list[bytes] = _NONE
        self.forwarded_for: list[bytes] = _NONE
        known, keep = _LINES, self.kept.append
        for line in lines:
            kind = known.get(line)
            if kind is None:
                kind = _kind_of_line(line)
            if kind == _PLAIN:
                keep(line)
            elif kind < _FORWARDED_FOR:
                self.special.append(line)
            elif trusted and kind == _FORWARDED_FOR:
                self.forwarded_for = [*self.forwarded_for, line.partition(b":")[2].strip(b" \t")]
            elif trusted and kind == _FORWARDED:
                self.forwarded = [*self.forwarded, field_name(line.partition(b":")[0])]
                keep(line)

    def joined(self, hop: frozenset[bytes]) -> bytes:
        """The kept lines, each with its CRLF, less those of the fields `hop`."""
        kept = self.kept
        if hop:
            kept = [line for line in kept if line.partition(b":")[0].lower() not in hop]
        return b"\r\n".join(kept) + b"\r\n" if kept else b""


def _by_kind(special: list[bytes]) -> dict[int, list[bytes]]:
    """The values of special field lines, in order."""
    values: dict[int, list[bytes]] = {}
    for line in special:
        name, _, value = line.partition(b":")
        values.setdefault(int(kind_of(name)), []).append(value.strip(b" \t"))
    return values


def _framing(values: dict[int, list[bytes]]) -> int | None:
    """Bytes of body as Content-Length says, CHUNKED, or None if nothing says it (RFC 9112, section 6.3)."""
    coding, lengths = values.get(Kind.CODING, _NONE), values.get(Kind.LENGTH, _NONE)
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


def _meaning(special: list[bytes], minor: int) -> Meaning:
    """Of the special field lines of a request of HTTP/1.`minor`."""
    values = _by_kind(special)
    length = _framing(values)
    if length == CHUNKED and not minor:
        raise ProtocolError(400, "Transfer-Encoding in HTTP/1.0")
    hosts = values.get(Kind.HOST, _NONE)
    if len(hosts) > 1 or (minor == 1 and not hosts):
        raise ProtocolError(400, "not exactly one Host")
    host = hosts[0] if hosts else b""
    framed = b""
    if length == CHUNKED:
        framed = b"Transfer-Encoding: chunked\r\n"
    elif length is not None:
        framed = b"Content-Length: %d\r\n" % length
    expect = values.get(Kind.EXPECT, _NONE)
    if expect and minor:
        if [value.lower() for value in expect] != [b"100-continue"]:
            raise ProtocolError(417, "an Expect other than 100-continue")
        framed += b"Expect: 100-continue\r\n"
    connection = _tokens(values.get(Kind.CONNECTION, _NONE))
    offered = values.get(Kind.UPGRADE, _NONE)
    # Not with a body: some readers take what follows the head for the other protocol already (httptools does).
    upgrade = bool(minor and not length and offered and b"upgrade" in connection)
    if upgrade and any(token.startswith(_NOT_TUNNELLED) for token in _tokens(offered)):
        upgrade = False
    if upgrade:
        framed += b"Upgrade: %b\r\n" % b", ".join(offered)
    persists = _persists(minor, connection)
    trailers = minor == 1 and b"trailers" in _tokens(values.get(Kind.TE, _NONE))
    port = _port(host)
    return Meaning(
        length=length or 0,
        persists=persists,
        upgrade=upgrade,
        trailers=trailers,
        host=host,
        port=port,
        hop=_hop(connection),
        named=b"Host: %b\r\n" % host if hosts else b"",
        framed=framed,
        called=_called(host, port, _NOTHING),
        options=_options(minor, persists=persists, upgrade=upgrade, trailers=trailers),
    )


def _hop(connection: set[bytes]) -> frozenset[bytes]:
    return frozenset(connection - _OWN_OPTIONS - SPECIAL.keys())


def _options(minor: int, *, persists: bool, upgrade: bool, trailers: bool) -> bytes:
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


def _called(host: bytes, port: bytes, said: frozenset[bytes]) -> bytes:
    """What is said of how the client called, but for what a trusted peer has `said`."""
    proto = b"" if b"x-forwarded-proto" in said else b"X-Forwarded-Proto: https\r\n"
    name = b"" if b"x-forwarded-host" in said or not host else b"X-Forwarded-Host: %b\r\n" % host
    return proto + name + (b"" if b"x-forwarded-port" in said else b"X-Forwarded-Port: %b\r\n" % port)


def read_request(head: bytes, *, trusted: bool) -> Request:
    """
    A request from its head. `trusted`: the peer may say for whom it forwards.

    Raises ProtocolError with the status to answer: 400, 417, 501 or 505.
    """
    lines = head.split(b"\r\n")
    first = lines[0]
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        check_characters(b"".join(lines))  # a bare LF further down is told first, as where the head comes in pieces
        if _OTHER_VERSION.fullmatch(first):
            raise ProtocolError(505, "a version other than HTTP/1.0 and HTTP/1.1")
        raise ProtocolError(400, "a request line that is none")
    method, target, version = found.groups()
    fields = _Sorted(lines[1:-1], trusted=trusted)
    minor = 1
    if version == b"1":
        key = b"\r\n".join(fields.special)
        meaning = _MEANINGS.get(key)
        if meaning is None:
            meaning = _meaning(fields.special, 1)
            _remember(_MEANINGS, key, meaning)
    else:
        minor = 0
        meaning = _meaning(fields.special, 0)
    if method == b"CONNECT":  # in whatever form: a backend that knows it takes what follows for a tunnel
        raise ProtocolError(501, "CONNECT: this is not a forward proxy")
    if target[0] == _SLASH:
        line = first + b"\r\n"
    else:
        origin, meaning = _origin(method, target, meaning)
        line = b"%b %b HTTP/1.%d\r\n" % (method, origin, minor)
    forwarded = _NOTHING
    if fields.forwarded:
        forwarded = frozenset(fields.forwarded)
        meaning = meaning._replace(called=_called(meaning.host, meaning.port, forwarded))
    said = b", ".join(fields.forwarded_for)
    return Request(method, target, minor, line, fields.joined(meaning.hop), meaning, said, forwarded)


def _origin(method: bytes, target: bytes, meaning: Meaning) -> tuple[bytes, Meaning]:
    """The target in origin form, and the meaning for the host in it, which overrides Host (RFC 9112, section 3.2.2)."""
    if method == b"OPTIONS" and target == b"*":
        return target, meaning
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise ProtocolError(400, "a request target that is none")
    # Forwarded in origin form so that the backend cannot see two hosts.
    host, origin = absolute[1], absolute[2] or (b"*" if method == b"OPTIONS" else b"/")  # RFC 9112, section 3.2.4
    if origin.startswith(b"?"):
        origin = b"/" + origin
    port = _port(host)
    return origin, meaning._replace(
        host=host, port=port, named=b"Host: %b\r\n" % host, called=_called(host, port, _NOTHING)
    )


def read_response(head: bytes, method: bytes) -> Response:
    """A response from its head; `method`: of the request that it answers. ProtocolError is the backend's fault."""
    lines = head.split(b"\r\n")
    fields = _Sorted(lines[1:-1], trusted=True)
    bodiless = method == b"HEAD"
    key = b"\r\n".join((b"HEAD" if bodiless else b"", lines[0], *fields.special))
    outline = _OUTLINES.get(key)
    if outline is None:
        outline = _outline(lines[0], fields.special, bodiless=bodiless)
        _remember(_OUTLINES, key, outline)
    status, length, persists, hop, line, framed = outline
    if fields.forwarded_for:
        framed += b"".join(b"X-Forwarded-For: %b\r\n" % value for value in fields.forwarded_for)
    return Response(status, length, persists, line + fields.joined(hop) + framed)


def _outline(first: bytes, special: list[bytes], *, bodiless: bool) -> _Outline:
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise ProtocolError(502, "a status line that is none")
    status = int(found[2])
    minor = found[1][0] - 48
    values = _by_kind(special)
    length = _framing(values)
    if length == CHUNKED and not minor:
        raise ProtocolError(502, "Transfer-Encoding in HTTP/1.0")
    never = status < 200 or status in (204, 304)
    framed = b""
    if length == CHUNKED and not never:
        framed = b"Transfer-Encoding: chunked\r\n"
    elif length is not None and length >= 0 and not (status < 200 or status == 204):
        framed = b"Content-Length: %d\r\n" % length
    offered = values.get(Kind.UPGRADE, _NONE)
    if offered and status in (101, 426):  # elsewhere it offers what is never forwarded: Apache's "h2,h2c"
        framed += b"Upgrade: %b\r\n" % b", ".join(offered)
    if never or bodiless:
        length = 0
    elif length is None:
        length = UNTIL_CLOSE
    connection = _tokens(values.get(Kind.CONNECTION, _NONE))
    return _Outline(
        status=status,
        length=length,
        persists=length != UNTIL_CLOSE and _persists(minor, connection),
        hop=_hop(connection),
        line=b"HTTP/1.1%b\r\n" % first[8:],
        framed=framed,
    )
