"""Clients that come and go by the thousand, at whatever stage they leave: nothing grows."""

from __future__ import annotations

import pytest

from lab import abuser
from lab.abuser import Clients
from lab.backend import backend, echo, echo_requests
from lab.client import at_rest, memory, nothing_left, relay

MOST = 1_500_000
"""Bytes; of 1,500 connections, each of which takes 17,000. Timers of closed connections stay until their time comes."""


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize(
    "behaviour", [abuser.one_request, abuser.connects_only, abuser.resets_after_the_handshake],
)  # fmt: skip
def test_nothing_grows(mode, behaviour):
    script = echo_requests if mode == "http" else echo
    with backend(script) as server, relay(server, f"--mode={mode}", "--access-log=off") as running:
        clients = Clients(running.port)
        clients.learn()

        def churn(count):
            for _ in range(count):
                for _ in behaviour(clients):
                    pass
            nothing_left(running)
            at_rest(running)
            return memory(running.pid)

        before = churn(500)
        assert churn(1500) - before < MOST
