"""The source behind `--authority`, without an authority, a child process, or a second spent."""

from __future__ import annotations

import json
import time

import anyio
import pytest

from lab.stand_in import StandIn
from sslterm.certs import authority as module
from sslterm.certs import child
from sslterm.certs.authority import Authority
from sslterm.certs.bundle import Rejected
from sslterm.certs.health import Health
from sslterm.certs.link import Issued, Refused
from sslterm.certs.maker import MakerError


class FakeMaker:
    def __init__(self):
        self.orders, self.fails = [], 0

    def make(self, order):
        self.orders.append(order)
        if self.fails:
            self.fails -= 1
            raise MakerError("no child today")
        return child.request()


class FakeLink:
    """Certifies, or raises what is next in `faults`."""

    def __init__(self, stand_in, skipped):
        self.stand_in = stand_in
        self.skipped = skipped
        self.faults = []
        self.requests = []

    async def certificate(self, request, patience):
        await anyio.lowlevel.checkpoint()
        assert 1 <= patience <= 10
        self.requests.append(request)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        return self.issue(request)

    def issue(self, request, lifetime=3600, **changes):
        made = self.stand_in.certificate(request.encode(), lifetime + self.skipped())
        answer = json.loads(made.partition(b"\r\n\r\n")[2])
        answer |= changes
        pem = {name: answer[name].encode() for name in ("chain", "authorities")}
        return Issued(**pem, lifetime=answer["lifetime"], renew_in=answer["renew_in"])


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """A source and everything around it; pauses take no time, and move both clocks."""

    class Parts:
        def __init__(self):
            self.skipped = 0.0
            self.pauses, self.log = [], []
            self.addresses = frozenset({"192.0.2.1"})
            self.health = Health()
            self.maker = FakeMaker()

        def look(self):
            if isinstance(self.addresses, Exception):
                raise self.addresses
            return self.addresses

    parts = Parts()
    stand_in = StandIn(tmp_path, 3600)
    stand_in.renew_in = 1800
    parts.link = FakeLink(stand_in, lambda: parts.skipped)
    parts.source = Authority(
        parts.link, parts.maker, parts.look, parts.health, lambda level, line: parts.log.append((level, line))
    )
    wall, steady, real = time.time, time.monotonic, anyio.move_on_after

    async def sleep(seconds):
        parts.pauses.append(seconds)
        parts.skipped += seconds
        await anyio.lowlevel.checkpoint()

    def move_on_after(seconds):
        parts.skipped += seconds
        return real(0)

    monkeypatch.setattr(anyio, "sleep", sleep)
    monkeypatch.setattr(anyio, "move_on_after", move_on_after)
    monkeypatch.setattr(time, "time", lambda: wall() + parts.skipped)
    monkeypatch.setattr(time, "monotonic", lambda: steady() + parts.skipped)
    yield parts
    stand_in.finish()


def test_each_certificate_has_a_key_of_its_own(parts):
    async def run():
        first = await parts.source.obtain()
        await parts.source.changed()
        return first, await parts.source.obtain()

    first, second = (each.pairs[0] for each in anyio.run(run))

    assert first.key != second.key
    assert first.chain != second.chain
    assert parts.maker.orders == [{"make": "request"}] * 2
    assert 1600 < parts.skipped < 2000, "half of its life, and a tenth of that to and fro"
    assert not parts.log
    assert "PRIVATE" not in repr(first)


def test_the_first_is_waited_for_with_one_line_for_each_reason(parts):
    away, slow = Refused("away"), Refused("slow", retry_after=7)
    parts.link.faults = [away] * 20 + [slow, away, slow]
    anyio.run(parts.source.obtain)

    assert [line for _, line in parts.log] == [
        f"No certificate yet, so nothing is served: {reason}; trying again" for reason in ("away", "slow")
    ]
    assert 0.16 <= parts.pauses[0] <= 0.24
    assert max(parts.pauses[:20]) <= 6
    assert parts.pauses[20] == 7
    assert parts.health.failures == 23
    assert len(parts.maker.orders) == 1, "the key that nobody certified is used until somebody does"
    assert len(set(parts.link.requests)) == 1


def test_a_renewal_that_fails_is_told_when_it_begins_and_when_time_runs_out(parts):
    async def run():
        await parts.source.obtain()
        parts.link.faults = [Refused("away")] * 400
        await parts.source.changed()
        return await parts.source.obtain()

    anyio.run(run)
    words = ["Certificate not renewed, the one in force"] * 3 + ["Certificate expired on"]

    assert [level for level, _ in parts.log] == ["WARNING", "ERROR", "ERROR", "ERROR"]
    assert all(line.startswith(begin) for (_, line), begin in zip(parts.log, words, strict=True))
    assert all("away" in line for _, line in parts.log)
    assert parts.health.failures == 400


def test_a_renewal_that_fails_once_is_tried_again(parts):
    async def run():
        await parts.source.obtain()
        parts.link.faults = [Refused("busy", retry_after=33)]
        await parts.source.changed()

    anyio.run(run)

    assert parts.pauses == [33]
    assert parts.health.failing == "busy"
    assert len(parts.log) == 1


def test_what_cannot_be_served_is_not_handed_over(parts):
    other = child.request()["request"]

    async def run():
        await parts.source.obtain()
        parts.link.faults = [
            parts.link.issue(other),
            parts.link.issue(other, lifetime=-60),
            parts.link.issue(other, authorities="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ]
        await parts.source.changed()
        return await parts.source.obtain()

    found = anyio.run(run)

    assert parts.health.failures == 3
    assert found.pairs[0].source == "authority"
    assert "not the key of the first certificate in authority" in parts.log[0][1]
    assert len(parts.maker.orders) == 5, "a key that was certified badly is not used again"


def test_a_child_that_fails_is_a_renewal_that_failed(parts):
    async def run():
        await parts.source.obtain()
        parts.maker.fails = 2
        await parts.source.changed()

    anyio.run(run)

    assert parts.health.failing == "a key for the authority: no child today"
    assert parts.health.failures == 2


@pytest.mark.parametrize("addresses", [{"192.0.2.1", "192.0.2.2"}, set(), {"192.0.2.2"}])
def test_other_addresses_bring_another_one_soon(parts, addresses):
    async def run():
        await parts.source.obtain()
        parts.addresses = frozenset(addresses)
        await parts.source.changed()

    anyio.run(run)

    assert parts.skipped <= 5


def test_addresses_that_change_for_a_moment_or_cannot_be_read_bring_nothing(parts, monkeypatch):
    looks = iter([{"b"}, {"192.0.2.1"}, {"b"}, {"c"}, {"192.0.2.1"}])
    first = []

    def addresses():
        if not first:
            first.append(1)
            return frozenset({"192.0.2.1"})
        found = next(looks, None)
        if found is None:
            raise OSError(24, "Too many open files")
        return frozenset(found)

    monkeypatch.setattr(parts.source, "_addresses", addresses)

    async def run():
        await parts.source.obtain()
        await parts.source.changed()

    anyio.run(run)

    assert parts.skipped > 1600


def test_the_authority_can_ask_for_a_renewal_but_not_all_the_time(parts):
    async def run():
        await parts.source.obtain()
        for _ in range(10):
            parts.source.ask_for_renewal()
            await parts.source.changed()
            await parts.source.obtain()

    anyio.run(run)

    assert len(parts.link.requests) == 11
    assert 50 <= parts.skipped < 100


def test_somebody_who_asks_gets_another_one_or_is_told_why_not(parts):
    async def run():
        first = await parts.source.obtain()
        second = await parts.source.obtain()
        parts.link.faults = [Refused("gone")]
        with pytest.raises(Rejected, match="gone"):
            await parts.source.obtain()
        return first, second

    first, second = anyio.run(run)

    assert first != second
    assert not parts.log


def test_a_certificate_that_was_not_taken_yet_is_not_replaced(parts):
    async def run():
        await parts.source.obtain()
        await parts.source.changed()
        await parts.source.changed()

    anyio.run(run)

    assert len(parts.link.requests) == 2
    assert module.NAME == "authority"
