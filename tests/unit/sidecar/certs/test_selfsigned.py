"""The self-signed source: which names, and when a new one is made."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.certs import selfsigned
from sslterm.certs.bundle import Rejected
from sslterm.certs.maker import MakerError
from sslterm.certs.selfsigned import SelfSigned, host_names


class FakeMaker:
    def __init__(self):
        self.orders = []
        self.fails = 0

    def make(self, order):
        self.orders.append(order)
        if self.fails:
            self.fails -= 1
            raise MakerError("no child today")
        return {"chain": "chain", "key": "key"}


@pytest.fixture
def pauses(monkeypatch):
    """Seconds slept, and no time spent."""
    slept = []

    async def yield_only(seconds):
        slept.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", yield_only)
    return slept


def test_it_names_the_host_loopback_and_every_address(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "w" * 63 + ".example")
    maker = FakeMaker()
    bundle = anyio.run(SelfSigned(maker, lambda: frozenset({"172.17.0.2"})).obtain).pairs[0]

    assert maker.orders == [
        {
            "common_name": "w" * 63 + ".",
            "dns": ["localhost", "w" * 63 + ".example"],
            "addresses": ["127.0.0.1", "172.17.0.2", "::1"],
            "days": 90.0,
        }
    ]
    assert (bundle.chain, bundle.key, bundle.source) == (b"chain", b"key", "self-signed")


@given(st.text(max_size=64))
def test_every_hostname_gives_names_that_a_certificate_can_hold(hostname):
    names = host_names(hostname)

    assert names[0] == "localhost"
    assert all(name.isascii() and name and " " not in name for name in names)


@pytest.mark.parametrize("hostname", ["", "localhost", "a b", "ä", "-a", "a..b", "." * 3])
def test_hostnames_that_dns_cannot_ask_for_are_left_out(hostname):
    assert host_names(hostname) == ["localhost"]


@pytest.mark.usefixtures("pauses")
def test_an_address_that_comes_makes_a_new_one_one_that_goes_does_not():
    looks = iter([{"a", "b"}, {"a"}, {"a", "b"}, {"a", "b", "c"}])
    source = SelfSigned(FakeMaker(), lambda: frozenset(next(looks)))

    async def run():
        await source.obtain()
        await source.changed()

    anyio.run(run)

    assert next(looks, None) is None


@pytest.mark.usefixtures("pauses")
def test_addresses_that_cannot_be_read_for_lack_of_a_descriptor_are_looked_at_again():
    looks = iter([{"a"}, OSError(24, "Too many open files"), {"a"}, {"a", "b"}, OSError(24, "Too many open files")])

    def addresses():
        found = next(looks)
        if isinstance(found, OSError):
            raise found
        return frozenset(found)

    source = SelfSigned(FakeMaker(), addresses)

    async def run():
        await source.obtain()
        await source.changed()
        with pytest.raises(Rejected, match="self-signed: the addresses of this namespace: Too many open files"):
            await source.obtain()

    anyio.run(run)


def test_two_thirds_of_its_life_make_a_new_one(monkeypatch, pauses):
    """The clock moves by an hour with each pause."""
    monkeypatch.setattr(selfsigned.time, "time", lambda: 3600.0 * len(pauses))
    source = SelfSigned(FakeMaker(), lambda: frozenset({"192.0.2.1"}), days=3)

    async def run():
        await source.obtain()
        await source.changed()

    anyio.run(run)

    assert len(pauses) == 48


def test_a_child_that_fails_is_tried_again_with_longer_pauses(pauses):
    maker = FakeMaker()
    maker.fails = 9
    source = SelfSigned(maker, frozenset)

    async def run():
        for _ in range(9):
            with pytest.raises(Rejected, match="self-signed: no child today"):
                await source.obtain()
            await source.changed()
        await source.obtain()

    anyio.run(run)

    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300, 300]
