"""The access log: lines, bounded memory, and what happens when they cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import re

import pytest

from lab.sidecar import wait_until
from sslterm import access_log
from sslterm.access_log import AccessLog
from sslterm.protocol.flows import Record
from sslterm.settings import LogFormat


def record(target="/a", *, method="GET", status=200, fault=""):
    return Record(1.0, 1.25, status, method, target, 3, 5, fault)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def written(pipe, *records, form=LogFormat.TEXT):
    log = AccessLog(pipe[1], form)
    for each in records:
        log.add(each, "192.0.2.1:99")
    log.close()
    return os.read(pipe[0], 1 << 20).decode().splitlines()


def test_a_long_path_is_cut_before_it_is_escaped(pipe):
    log = AccessLog(pipe[1], LogFormat.TEXT)
    log.add(record(target="/" + "\xff" * 30_000), "192.0.2.1:99")
    log.close()
    line = os.read(pipe[0], 65536).decode()

    assert len(line) < 8500
    assert "\\xff..." in line


def test_a_line_has_the_columns_of_2017(pipe):
    line = written(pipe, record(fault="why"))[0]

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \| 200 \|    250\.000ms \| 192\.0\.2\.1:99 \| GET /a \| 5 \| why", line
    )


def test_a_tcp_line_shows_both_sizes_and_no_status(pipe):
    line = written(pipe, record("", method="", status=0))[0]

    assert line.split(" | ")[1:] == ["  -", "   250.000ms", "192.0.2.1:99", "tcp", "3/5"]


def test_json_is_one_object_a_line(pipe):
    entry = json.loads(written(pipe, record('/"\\'), form=LogFormat.JSON)[0])

    assert entry.pop("time").endswith("Z")
    assert entry == {
        "status": 200, "duration_ms": 250.0, "client": "192.0.2.1:99", "method": "GET", "path": '/"\\', "received": 3,
        "sent": 5,
    }  # fmt: skip


@pytest.mark.parametrize("form", LogFormat)
def test_no_target_makes_more_than_one_printable_line(pipe, form):
    targets = ["/\x85", "/\u2028".encode().decode("latin-1"), "/\xff\x9b", "/a"]
    lines = written(pipe, *map(record, targets), form=form)

    assert len(lines) == len(targets)
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(pipe, monkeypatch):
    monkeypatch.setattr(access_log, "_MOST_WAITING", 200_000)
    log = AccessLog(pipe[1], LogFormat.TEXT)
    for _ in range(10_000):  # far more than a pipe holds
        log.add(record(), "192.0.2.1:99")
        log.flush()
    received = bytearray()

    def told():
        received.extend(os.read(pipe[0], 1 << 20))
        log.add(record("/more"), "192.0.2.1:99")
        log.flush()
        return b"dropped" in received

    wait_until(told, "a line about the dropped ones")
    log.close()
    count = int(re.search(rb"(\d+) lines were dropped", received)[1])
    assert received.count(b"GET /a |") + count >= 10_000  # some of those that followed may be among them


def test_lines_that_cannot_be_written_are_dropped_and_it_goes_on(pipe):
    log = AccessLog(pipe[1], LogFormat.TEXT)
    os.close(pipe[0])
    for _ in range(3):
        log.add(record(), "192.0.2.1:99")
        log.flush()
    log.close()

    assert not log._output._writer.is_alive()


def test_a_pipe_that_does_not_block_gets_whole_lines(pipe):
    os.set_blocking(pipe[1], False)
    log = AccessLog(pipe[1], LogFormat.TEXT)
    for _ in range(5000):
        log.add(record(), "192.0.2.1:99")
    log.flush()
    received = bytearray()

    def all_there():
        received.extend(os.read(pipe[0], 1000))
        return received.count(b"\n") == 5000

    wait_until(all_there, "5000 lines")
    log.close()
    assert received.count(b"| GET /a | 5\n") == 5000


def test_a_reader_that_never_reads_does_not_keep_the_process(pipe):
    log = AccessLog(pipe[1], LogFormat.TEXT)
    for _ in range(5000):
        log.add(record(), "192.0.2.1:99")
    log.close(timeout=0.01)

    assert log._output._writer.daemon
    os.close(pipe[0])  # its thread would go on writing, to whatever gets this descriptor's number next
    log._output._writer.join(30)
    assert not log._output._writer.is_alive()


@pytest.mark.parametrize("method", ["GET", ""])
def test_who_the_client_proved_to_be(pipe, method):
    for form in LogFormat:
        log = AccessLog(pipe[1], form)
        log.add(record(method=method), "192.0.2.1:99 spiffe://td/web")
        log.add(record(method=method), "192.0.2.1:99")
        log.close()
    lines = os.read(pipe[0], 65536).decode().splitlines()

    assert " | 192.0.2.1:99 spiffe://td/web | " in lines[0]
    assert " | 192.0.2.1:99 | " in lines[1]
    known, unknown = (json.loads(line) for line in lines[2:])
    assert (known["client"], known["client_id"]) == ("192.0.2.1:99", "spiffe://td/web")
    assert unknown["client"] == "192.0.2.1:99"
    assert "client_id" not in unknown


def test_a_call_to_another_is_no_client(pipe):
    call = record("db:8443", method="", status=0)
    line = written(pipe, call)[0]
    told = json.loads(written(pipe, call, form=LogFormat.JSON)[0])

    assert line.endswith(" |   - |    250.000ms | 192.0.2.1:99 | out db:8443 | 3/5")
    assert (told["direction"], told["upstream"], told["received"], told["sent"]) == ("out", "db:8443", 3, 5)
    assert "path" not in told
