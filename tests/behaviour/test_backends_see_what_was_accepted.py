"""The corpus of right and wrong requests through a real sidecar: its backend sees those it accepted, and no other."""

from __future__ import annotations

import re

import pytest

from lab.backend import backend
from lab.client import Client, relay
from lab.corpus import CASES
from lab.exchange import HEAD_LIMIT
from lab.readers import requests_by_h11
from lab.strict import Strict, nginx

CLIENTS = {
    f"127.1.{number // 250}.{number % 250 + 1}": case for number, case in enumerate(CASES) if case.side == "request"
}
"""Each comes from an address of its own, so that a backend can tell which is which (X-Forwarded-For)."""
UTF_8 = re.compile(rb"\S+ \S*[\x80-\xff]")


def accepted(case):
    """Method and target of each request that goes to the backend, and whether it does so to its end."""
    _, exchange = case.read([case.wire])
    for stream in exchange.backends:
        if UTF_8.match(stream):  # nothing that h11 would read
            yield stream.partition(b" HTTP/")[0], True
        else:
            for message in requests_by_h11(stream):
                yield b" ".join(message.first), message.whole


def talk(running, source, case):
    """What the client is answered: each request that is whole, and the one that is refused."""
    outcome, _ = case.read([case.wire])
    with Client(running.port, source=source) as client:
        client.send(case.wire)
        for first, whole in accepted(case):
            if whole:
                status = 100
                while status == 100:
                    status, _, _ = client.answer(method=first.partition(b" ")[0])
                yield first, status
        if outcome.refused:
            assert client.answer()[0] == int(outcome.end), case
        if outcome.refused or outcome.end == "closed":
            assert client.rest() == b"", case


@pytest.mark.timeout(300)
def test_a_strict_backend_sees_the_requests_that_were_accepted_and_no_other():
    script = Strict()
    with backend(script) as server, relay(server, f"--max-head-size={HEAD_LIMIT}") as running:
        for source, case in CLIENTS.items():
            for _, status in talk(running, source, case):
                assert status == (502 if UTF_8.match(case.wire) else 204), case

    for source, case in CLIENTS.items():
        wanted = [] if UTF_8.match(case.wire) else [first for first, whole in accepted(case) if whole]
        assert script.seen.pop(source, []) == wanted, case
    assert not script.seen


@pytest.mark.timeout(300)
def test_nginx_sees_the_requests_that_were_accepted_and_no_other(tmp_path):
    refused = []
    with nginx(tmp_path) as server, relay(server.port, f"--max-head-size={HEAD_LIMIT}") as running:
        for source, case in CLIENTS.items():
            for first, status in talk(running, source, case):
                assert status in (204, 400, 405), case  # it has a mind of its own on methods and some fields
                if status == 400:
                    refused.append((source, first))
    seen = server.seen()

    # Where it refuses a head, it may not have got as far as the field that says whose it is.
    nobodys = seen.pop("", [])
    assert sorted(nobodys) == sorted(first for source, first in refused if source not in seen)
    for source, case in CLIENTS.items():
        wanted = [first for first, whole in accepted(case) if whole and (source, first) not in refused]
        unfinished = [first for first, whole in accepted(case) if not whole]  # it may have seen that much
        got = [first for first in seen.pop(source, []) if (source, first) not in refused]
        assert got in (wanted, wanted + unfinished), case
    assert not seen
