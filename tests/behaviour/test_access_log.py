"""One line per request at its end, in text or JSON, that nobody can forge; its reader cannot stop the traffic."""

from __future__ import annotations

import json
import os
import re

import pytest

from lab.backend import backend, echo, echo_requests
from lab.client import Client, access_lines, get, post, relay
from lab.sidecar import wait_until

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \| (?P<status> *[\d-]+) \| +\d+\.\d{3}ms \| (?P<client>127\.0\.0\.1:\d+)"
    r" \| (?P<what>[^|]+) \| (?P<size>[\d/]+)(?: \| (?P<fault>.+))?"
)


def test_text_lines():
    with backend(echo_requests) as server, relay(server) as running:
        with Client(running.port) as client:
            own = f"127.0.0.1:{client.raw.getsockname()[1]}"
            client.ask(get(b"/a?b=c"))
            client.ask(post(b"hello", b"/d"))
            client.ask(b"nonsense\r\n\r\n")
        found = [LINE.fullmatch(line) for line in access_lines(running, 3)]

        assert [(each["status"], each["what"], each["size"]) for each in found] == [
            ("200", "GET /a?b=c", "11"),
            ("200", "POST /d", "13"),
            ("400", "- -", found[2]["size"]),
        ]
        assert {each["client"] for each in found} == {own}
        assert [each["fault"] for each in found] == [None, None, "a request line that is none"]


def test_json_lines():
    with backend(echo_requests) as server, relay(server, "--log-format=json") as running:
        with Client(running.port) as client:
            client.ask(post(b"hello", b'/quo"te\\'))
            client.ask(b"nonsense\r\n\r\n")
        good, bad = (json.loads(line) for line in access_lines(running, 2))

        assert list(good) == ["time", "status", "duration_ms", "client", "method", "path", "received", "sent"]
        assert (good["status"], good["method"], good["path"]) == (200, "POST", '/quo"te\\')
        assert (good["received"], good["sent"]) == (5, len(b'POST /quo"te\\ hello'))
        assert (bad["status"], bad["error"]) == (400, "a request line that is none")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_tcp_connection_is_one_line_at_its_end(form):
    with backend(echo) as server, relay(server, "--mode=tcp", f"--log-format={form}") as running:
        with Client(running.port) as client:
            client.send(b"hello")
            assert client.exactly(5) == b"hello"
            assert running.access == []
            client.end()
            assert client.rest() == b""
        line = access_lines(running, 1)[0]
        if form == "json":
            entry = json.loads(line)
            assert list(entry) == ["time", "duration_ms", "client", "received", "sent"]
            assert (entry["received"], entry["sent"]) == (5, 5)
        else:
            assert LINE.fullmatch(line)["size"] == "5/5"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_path_cannot_forge_a_line(form):
    paths = [b"/\xe2\x80\xa8200", b"/\x9b31m", b"/\xff", b"/%0a%1b", b"/|200|", b"/\xc2\x85"]
    with backend(echo_requests) as server, relay(server, f"--log-format={form}") as running:
        with Client(running.port) as client:
            for path in paths:
                assert client.ask(get(path))[0] == 200
            assert client.ask(b"GET /a\x1b[2Jb HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 400
        lines = access_lines(running, len(paths) + 1)

        assert len(lines) == len(paths) + 1
        for line in lines:
            assert line.isascii()
            assert line.isprintable()


def test_a_reader_that_stops_does_not_stop_the_traffic(tmp_path):
    """8 MiB of lines wait; what is beyond is dropped, and counted once somebody reads again."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    before = ("sh", "-c", f'exec "$0" "$@" 1<>{fifo}')
    path = b"/" + b"x" * 2000
    asked = 5000
    with backend(echo_requests) as server, relay(server, before=before) as running:
        with Client(running.port) as client:
            for _ in range(asked):
                assert client.ask(get(path))[0] == 200
        received = bytearray()
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

        def read_on():
            try:
                received.extend(os.read(reader, 1 << 20))
            except BlockingIOError:
                return b" lines were dropped" in received
            return False

        with Client(running.port) as client:
            wait_until(lambda: read_on() or client.ask(get(b"/more"))[0] != 200, "a word about what was dropped")
        os.close(reader)
    lines = bytes(received).split(b"\n")
    whole = sum(path in line for line in lines)
    dropped = int(re.search(rb"(\d+) lines were dropped", received)[1])
    assert 3500 < whole < asked
    assert whole + dropped >= asked
    assert all(line.endswith(b"| GET " + path + b" | %d" % (len(path) + 5)) for line in lines if path in line)


def test_a_reader_that_goes_away_does_not_stop_the_traffic(tmp_path):
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with (
        backend(echo_requests) as server,
        relay(server, before=("sh", "-c", f'exec "$0" "$@" 1>{fifo}')) as running,
        Client(running.port) as client,
    ):
        assert client.ask(get())[0] == 200
        os.close(reader)
        for _ in range(20):
            assert client.ask(get())[0] == 200


def test_it_can_be_off():
    with (
        backend(echo_requests) as server,
        relay(server, "--access-log=off") as running,
        Client(running.port) as client,
    ):
        assert client.ask(get())[0] == 200
    assert running.access == []
