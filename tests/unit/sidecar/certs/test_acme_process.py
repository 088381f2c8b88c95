"""The child process of an order: it is heard to its end, and nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from sslterm.certs import acme_process
from sslterm.certs.acme_process import Process


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def child(monkeypatch, code: str):
    """A process whose program is `code`, and which must be gone at the end, with all its files."""
    before = open_files()
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **rest: start([sys.executable, "-c", code], **rest))
    process = Process({"do": "order"})
    pid = process._process.pid
    try:
        yield process
    finally:
        process.close()
        assert not Path(f"/proc/{pid}").exists()
        assert open_files() == before


def heard(process: Process) -> dict:
    return anyio.run(process.event)


def test_events_come_one_by_one_and_orders_reach_it(monkeypatch):
    code = """
import sys
print('{"event": "a"}')
print('{"event": "b", "order": %s}' % sys.stdin.readline().strip(), flush=True)
print('{"event": "c", "order": %s}' % sys.stdin.readline().strip())
"""
    with child(monkeypatch, code) as process:
        assert heard(process) == {"event": "a"}
        assert heard(process) == {"event": "b", "order": {"do": "order"}}

        process.send({"do": "ready"})

        assert heard(process) == {"event": "c", "order": {"do": "ready"}}
        assert heard(process)["event"] == "failed"


def test_one_that_crashes_says_how(monkeypatch):
    with child(monkeypatch, "raise ImportError('no module named acme')") as process:
        event = heard(process)

        assert event["event"] == "failed"
        assert event["why"] == "the child process failed: ImportError: no module named acme"
        assert not event["reached"]


def test_one_that_is_gone_before_it_has_its_order(monkeypatch):
    def fail(*_):
        raise BrokenPipeError

    monkeypatch.setattr(Process, "send", fail)
    with child(monkeypatch, "raise SystemExit('not today')") as process:
        assert heard(process)["why"] == "the child process failed: not today"


def test_one_that_ends_without_a_word(monkeypatch):
    with child(monkeypatch, "") as process:
        assert heard(process)["why"] == "the child process failed: it ended without a word"


def test_one_that_never_ends_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(acme_process, "_PATIENCE", 0.2)
    with child(monkeypatch, "import time; time.sleep(60)") as process:
        assert heard(process)["why"] == "the child process did not finish within 0.2 s"


def test_one_that_talks_without_end_is_not_listened_to(monkeypatch):
    with child(monkeypatch, "import sys\nwhile True: sys.stdout.write('x' * 100000)") as process:
        assert heard(process)["event"] == "failed"
        assert len(process._received) <= acme_process._LONGEST + acme_process._CHUNK


def test_whoever_waits_may_be_interrupted_and_come_back(monkeypatch):
    async def twice(process):
        with anyio.move_on_after(0.05):
            await process.event()
            raise AssertionError("too early")
        process.send({"do": "ready"})
        return await process.event()

    code = 'import sys; sys.stdin.readline(); sys.stdin.readline(); print(\'{"event": "late"}\')'
    with child(monkeypatch, code) as process:
        assert anyio.run(twice, process) == {"event": "late"}


def test_it_ends_when_this_process_is_gone():
    """The real one, whose stdin ends while it waits for its order."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "sslterm.certs.acme_child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 1


def test_a_system_without_processes_is_an_oserror_and_leaves_nothing(monkeypatch):
    before = open_files()

    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(OSError, match="temporarily"):
        Process({"do": "order"})
    assert open_files() == before
