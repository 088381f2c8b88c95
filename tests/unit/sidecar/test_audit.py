"""What the audit says while it cannot look. (What it finds is in behaviour/.)"""

from __future__ import annotations

import errno
import ipaddress

import anyio
import pytest

from sslterm import check, netns
from sslterm.audit import Audit
from sslterm.netns import Listener
from sslterm.settings import Address, Settings

BLIND = "cannot look whether clients can go round TLS: Too many open files"
FAULT = "clients can go round TLS: the backend also listens on 0.0.0.0:8080"


def fail(*_):
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.fixture
def seen(monkeypatch):
    """What each look finds, in order; None for one that fails. No look is left at the end."""
    looks = []

    def listening(_ports):
        found = looks.pop(0)
        return fail() if found is None else [Listener(ipaddress.ip_address(host), 8080, 0) for host in found]

    monkeypatch.setattr(netns, "listening", listening)
    return looks


def watched(looks, count):
    """The faults after so many looks, and what was said."""
    said, faults = [], []

    async def watch():
        audit = Audit(lambda *line: said.append(line))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(audit.watch, [("127.0.0.1", 8080)], lambda: None)
            for left in reversed(range(count)):
                with anyio.fail_after(20):
                    while len(looks) > left:
                        audit.soon()
                        await anyio.lowlevel.checkpoint()
                faults.append(audit.fault)
            tasks.cancel_scope.cancel()

    anyio.run(watch)
    return faults, said


def test_a_look_that_fails_is_told_once_and_ends_nothing(seen):
    seen += [["127.0.0.1"], None, None, ["127.0.0.1"]]
    faults, said = watched(seen, 4)

    assert faults == ["", BLIND, BLIND, ""]
    assert said == [
        ("WARNING", f"C{BLIND[1:]}; trying again"),
        ("INFO", "Looking again whether clients can go round TLS"),
    ]


def test_what_was_found_before_still_holds(seen):
    seen += [["0.0.0.0"], None, ["127.0.0.1"]]
    faults, said = watched(seen, 3)

    assert faults == [FAULT, FAULT, ""]
    assert [level for level, _ in said] == ["WARNING", "WARNING", "INFO", "INFO"]


def test_our_own_addresses_are_asked_for_until_they_are_told(monkeypatch, seen):
    answers = [fail, frozenset]
    monkeypatch.setattr(netns, "read_addresses", lambda: answers.pop(0)())
    seen += [["0.0.0.0"]]
    faults, said = watched(seen, 1)

    assert faults == [FAULT]
    assert [level for level, _ in said] == ["WARNING", "INFO", "WARNING"]


def test_a_strict_check_that_cannot_look_says_so(monkeypatch):
    monkeypatch.setattr(netns, "read_addresses", fail)

    assert check.bypass_of(Settings(backend_addr=Address("127.0.0.1", 8080))) == BLIND
