"""
What reading one head of a request costs: our own reader, and llhttp as httptools brings it to Python.

Ours finds the head, checks it, and makes the lines to forward. llhttp is measured twice: with callbacks that do no more
than collect names and values, and with what a proxy has to add to make the same of them. One connection, many heads:
first the same one again and again, as from a client that keeps its connection, then each with a field of its own.

    .venv/bin/python bench/heads.py
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable

import httptools

from sslterm.protocol.fields import SPECIAL
from sslterm.protocol.http1 import HeadReader, read_request

FOLD = bytes(c if c in b"0123456789abcdefghijklmnopqrstuvwxyz" else 45 for c in range(256))
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]*)(?::([0-9]{0,5}))?")
ROUNDS = 15
HEADS = 2000

CURL = b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n"
BROWSER = (
    b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"\r\nsec-ch-ua-mobile: ?0\r\n'
    b'sec-ch-ua-platform: "Linux"\r\nUpgrade-Insecure-Requests: 1\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"
)
COOKIES = (
    BROWSER[:-2]
    + b"Cookie: "
    + b"; ".join(b"session%d=%b" % (at, b"0123456789abcdef" * 5) for at in range(15))
    + b"\r\n\r\n"
)


class Fields:
    """Callbacks that collect names and values."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = b""

    def on_message_begin(self) -> None:
        self.fields = []
        self.target = b""

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.method = self.parser.get_method()
        self.version = self.parser.get_http_version()
        self.persists = self.parser.should_keep_alive()


class Proxy(Fields):
    """And what a proxy has to do with them: what llhttp leaves unchecked, and the head to forward."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.special: dict[bytes, list[bytes]] = {}
        self.lines: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower in SPECIAL:
            self.special.setdefault(lower, []).append(value)
        elif lower.translate(FOLD) == lower:
            self.lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        special = self.special
        hosts = special.get(b"host", [])
        assert self.version in ("1.0", "1.1")
        assert self.target.startswith(b"/")
        assert len(hosts) == 1
        assert HOST.fullmatch(hosts[0])
        connection = {part.strip().lower() for value in special.get(b"connection", []) for part in value.split(b",")}
        hop = connection - {b"close", b"keep-alive", b"upgrade", b"te"}
        out = [b"%b %b HTTP/%b" % (self.method, self.target, self.version.encode()), b"Host: " + hosts[0]]
        out += [line for line in self.lines if line.partition(b":")[0].lower() not in hop] if hop else self.lines
        if b"transfer-encoding" in special:
            assert [value.lower() for value in special[b"transfer-encoding"]] == [b"chunked"]
            out.append(b"Transfer-Encoding: chunked")
        elif b"content-length" in special:
            out.append(b"Content-Length: " + special[b"content-length"][0])
        self.out = out


def own(heads: list[bytes]) -> None:
    reader = HeadReader(16384)
    for head in heads:
        whole = reader.feed(head)
        assert whole is not None
        read_request(whole[0], trusted=False)


def llhttp(heads: list[bytes]) -> None:
    feed = Fields().parser.feed_data
    for head in heads:
        feed(head)


def llhttp_as_a_proxy(heads: list[bytes]) -> None:
    feed = Proxy().parser.feed_data
    for head in heads:
        feed(head)


def measure(read: Callable[[list[bytes]], None], heads: list[bytes]) -> float:
    """Microseconds of CPU per head."""
    began = time.process_time()
    read(heads)
    return (time.process_time() - began) / len(heads) * 1e6


def main() -> None:
    readers = {"own": own, "llhttp, fields only": llhttp, "llhttp, as a proxy": llhttp_as_a_proxy}
    print(f"{'µs of CPU per head':<34}" + "".join(f"{name:>20}" for name in readers))
    for name, head in (("curl", CURL), ("browser", BROWSER), ("cookies", COOKIES)):
        others = [b"%bX-Request: %06d\r\n\r\n" % (head[:-2], number) for number in range(HEADS)]
        for what, heads in (("the same", [head] * HEADS), ("others", others)):
            rounds = [[measure(read, heads) for read in readers.values()] for _ in range(ROUNDS)]
            medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
            title = f"{name}, {len(heads[0])} bytes, {what}"
            print(f"{title:<34}" + "".join(f"{median:>20.2f}" for median in medians))


if __name__ == "__main__":
    main()
