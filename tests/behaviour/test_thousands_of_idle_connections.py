"""Thousands of idle TLS connections: others are served meanwhile, and when they are gone nothing of them is left."""

from __future__ import annotations

import pytest

from lab.abuser import abuse
from lab.backend import backend, echo, echo_requests
from lab.client import Client, at_rest, get, memory, nothing_left, open_files, relay
from lab.sidecar import wait_until

MB = 1_000_000
NEVER = 0.001
"""Things a second."""
KEPT = 4000
"""
Bytes a connection for what Python's own allocator does not return to the machine: it gives back whole megabytes, and
some object that stays lies in most of them. It is used again by the next connections, so it does not grow.
"""


@pytest.mark.parametrize(
    ("mode", "kind", "count", "sockets"),
    [("http", "idle", 8000, 1), ("http", "idle_after_a_request", 1000, 2), ("tcp", "idle_after_a_request", 1000, 2)],
)
def test_they_disturb_nobody_and_leave_nothing_behind(mode, kind, count, sockets):
    limits = ("--max-connections=9000", "--keepalive-timeout=10m", "--access-log=off")
    script = echo_requests if mode == "http" else echo
    with backend(script) as server, relay(server, f"--mode={mode}", *limits) as running:
        idle = memory(running.pid)
        most = []
        for _ in range(2):
            with abuse(kind, running.port, count, rate=NEVER):
                assert open_files(running.pid) >= running.idle + sockets * count, "all of them are there"
                at_rest(running)
                for number in range(50):
                    with Client(running.port) as client:
                        client.send(get(b"/%d" % number))
                        assert client.until(b"GET /%d " % number)
                most.append(memory(running.pid))
            nothing_left(running)
            wait_until(lambda: memory(running.pid) < idle + 2 * MB + KEPT * count, "memory given back")
        assert most[1] - most[0] < 2 * MB, f"a leak is what grows: {most}"
