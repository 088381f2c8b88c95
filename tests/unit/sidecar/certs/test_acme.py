"""The ACME source: what is ordered when, and what is served meanwhile. The server's part is scripted."""

from __future__ import annotations

import ssl
import time
from dataclasses import replace

import anyio
import pytest

from lab.certificates import make
from sslterm.certs import acme
from sslterm.certs.acme import Acme, Checks
from sslterm.certs.acme_state import Folder
from sslterm.certs.bundle import Rejected
from sslterm.certs.health import Health
from sslterm.settings import Settings

PAIR = make("site.example")
OTHER = make("site.example")
DAY = 86400.0


def issued(pair=PAIR, life=90 * DAY, age=0.0, window=None):
    begin = time.time() - age
    return {
        "event": "issued", "chain": pair.cert.decode(), "key": pair.key.decode(), "not_before": begin,
        "not_after": begin + life, "window": window,
    }  # fmt: skip


ACCOUNT = {"event": "account", "uri": "https://acme.example/1", "key": "KEY"}
CHALLENGE = {
    "event": "challenge",
    "proofs": [{"name": "site.example", "chain": "c", "key": "k"}],
    "answers": {"t": "a"},
}
REFUSED = {"event": "failed", "why": "no, no", "kind": "no", "reached": True, "after": 0.0}


class FakeMaker:
    def make(self, order):
        return {"chain": f"stopgap for {','.join(order['dns'])}", "key": "key"}


class Bench:
    """A source and all around it; each order is answered by the next of `script`."""

    def __init__(self, tmp_path, monkeypatch):
        self.settings = Settings(acme=("site.example",), acme_dir=tmp_path / "state", acme_email="me@site.example")
        self.said = []
        self.shown = []
        self.answers = {}
        self.orders = []
        self.ready = 0
        self.closed = 0
        self.script = []
        self.health = Health()
        self.serving = anyio.Event()
        self.serving.set()
        bench = self

        class FakeProcess:
            def __init__(self, order):
                bench.orders.append(order)
                self.events = list(bench.script.pop(0)) if bench.script else None
                if self.events and isinstance(self.events[0], OSError):
                    raise self.events[0]

            async def event(self):
                await anyio.lowlevel.checkpoint()
                if not self.events:
                    await anyio.sleep_forever()
                return dict(self.events.pop(0))

            def send(self, what):
                assert what == {"do": "ready"}
                bench.ready += 1
                assert bench.shown[-1], "ready before the relay is"

            def close(self):
                bench.closed += 1

        async def show(proofs):
            bench.shown.append([proof.name for proof in proofs])

        self.show = show
        monkeypatch.setattr(acme, "Process", FakeProcess)

    def source(self) -> Acme:
        checks = Checks(self.serving.wait, self.show, self.answers)
        return Acme(self.settings, FakeMaker(), self.health, lambda *said: self.said.append(said), checks)

    def run(self, test) -> None:
        async def bounded():
            with anyio.fail_after(20):
                await test()

        anyio.run(bounded)

    @property
    def folder(self):
        return Folder(self.settings.acme_dir, self.settings.acme_directory, self.settings.acme)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch)


async def cut(wait, seconds=0.05) -> bool:
    """Whether `wait` was still waiting after a moment."""
    with anyio.move_on_after(seconds) as scope:
        await wait()
    return scope.cancelled_caught


def test_the_first_order(bench):
    bench.script = [[ACCOUNT, CHALLENGE, issued()]]

    async def test():
        source = bench.source()
        first = await source.obtain()
        assert first.pairs[0].chain == b"stopgap for site.example"
        assert await source.obtain() == first

        await source.changed()
        second = await source.obtain()
        assert second.pairs[0].chain == PAIR.cert
        assert bench.orders[0]["do"] == "order"
        assert (bench.orders[0]["account"], bench.orders[0]["names"]) == ("", ("site.example",))
        assert (bench.ready, bench.closed) == (1, 1)
        assert bench.shown == [["site.example"], []]
        assert bench.answers == {}
        assert await cut(source.changed)
        assert len(bench.orders) == 1

        again = bench.source()
        assert await again.obtain() == second
        assert await cut(again.changed)
        assert len(bench.orders) == 1

    bench.run(test)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"chain": OTHER.cert.decode()}, "not the key of the first certificate"),
        ({"chain": PAIR.cert.decode() + "-----BEGIN A-----" * 10}, "cut short"),
        ({"chain": "nothing"}, "not PEM"),
    ],
)
def test_what_cannot_be_served_is_neither_kept_nor_served(bench, change, why):
    bench.script = [[issued() | change], []]

    async def test():
        source = bench.source()
        first = await source.obtain()
        assert await cut(source.changed)
        assert why in bench.health.failing
        assert bench.folder.load() is None
        assert await source.obtain() == first
        assert await bench.source().obtain() == first

    bench.run(test)


def test_a_server_may_write_what_it_likes_between_the_certificates(bench):
    bench.script = [[issued() | {"chain": f"{PAIR.cert.decode()}\u4e2d \ud800\n"}]]

    async def test():
        source = bench.source()
        await source.obtain()
        await source.changed()
        found = await source.obtain()
        assert found.pairs[0].leaf() == ssl.PEM_cert_to_DER_cert(PAIR.cert.decode())
        assert await bench.source().obtain() == found

    bench.run(test)


def test_an_account_is_kept_even_if_the_order_fails(bench):
    bench.script = [[ACCOUNT, REFUSED], [issued()]]

    async def test():
        source = bench.source()
        await source.obtain()
        assert await cut(source.changed)
        again = bench.source()
        await again.obtain()
        await again.changed()
        assert bench.orders[1]["account"] == ACCOUNT["uri"]
        assert bench.orders[1]["key"] == "KEY"

    bench.run(test)


def test_a_failure_is_told_in_full_once(bench):
    bench.script = [
        [REFUSED],
        [REFUSED | {"why": "no, not now"}],
        [REFUSED | {"kind": "other", "why": "never"}],
        [issued()],
    ]

    async def test():
        source = bench.source()
        await source.obtain()
        for _ in range(3):
            assert await cut(source.changed)
            await source.obtain()  # as SIGHUP has it: try again now
        await source.changed()
        await source.obtain()
        told = [text for level, text in bench.said if level in ("ERROR", "WARNING")]
        assert len(told) == 3
        assert "no, no; the self-signed one stays; trying again in 60 s" in told[0]
        assert told[1] == "acme: failed for the same reason, 2 times now; trying again in 2 min"
        assert "never" in told[2]
        assert await cut(source.changed)
        assert bench.health.failing == ""

    bench.run(test)


def test_five_failures_are_enough_for_an_hour(bench):
    bench.script = [[REFUSED] for _ in range(9)]

    async def test():
        for _ in range(4):
            source = bench.source()
            await source.obtain()
            assert await cut(source.changed)
            await source.obtain()
            assert await cut(source.changed)
        assert len(bench.orders) == 5

    bench.run(test)


def test_what_the_server_asks_for_is_granted_to_it(bench):
    bench.script = [[REFUSED | {"after": 7200.0}]]

    async def test():
        source = bench.source()
        await source.obtain()
        assert await cut(source.changed)
        await source.obtain()
        assert await cut(source.changed)
        assert len(bench.orders) == 1
        assert "trying again in 2 h" in bench.said[-1][1]

    bench.run(test)


def test_an_interruption_does_not_begin_the_order_anew(bench):
    bench.script = [[]]

    async def test():
        source = bench.source()
        await source.obtain()
        for _ in range(3):
            assert await cut(source.changed)
            await source.obtain()
        assert len(bench.orders) == 1
        assert bench.closed == 0

    bench.run(test)


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(bench):
    bench.script = [[issued(life=90 * DAY, age=61 * DAY)], [issued(OTHER)]]

    async def test():
        source = bench.source()
        await source.obtain()
        await source.changed()
        await source.obtain()
        assert await cut(source.changed)  # not at once: a server that gives old ones must not be asked without end
        kept = bench.folder.load()
        assert kept is not None
        assert kept.renew_at > time.time() + 3600

        bench.folder.save(replace(kept, renew_at=time.time() - 1))
        later = bench.source()
        assert (await later.obtain()).pairs[0].chain == PAIR.cert
        await later.changed()
        assert (await later.obtain()).pairs[0].chain == OTHER.cert
        assert bench.orders[1]["chain"] == PAIR.cert.decode()

    bench.run(test)


def test_a_renewal_that_fails_leaves_the_certificate(bench):
    bench.script = [[issued()], [REFUSED]]

    async def test():
        source = bench.source()
        await source.obtain()
        await source.changed()
        before = await source.obtain()
        kept = bench.folder.load()
        bench.folder.save(replace(kept, renew_at=0.0))
        later = bench.source()
        assert await later.obtain() == before
        assert await cut(later.changed)
        assert await later.obtain() == before
        assert "the certificate before stays" in bench.said[-1][1]
        assert bench.health.failing == "no, no"

    bench.run(test)


def test_no_window_keeps_a_certificate_from_being_renewed_before_it_ends(bench):
    far = time.time() + 9000 * DAY
    bench.script = [[issued(window={"start": far, "end": far, "ask_in": 100.0})]]

    async def test():
        source = bench.source()
        await source.obtain()
        await source.changed()
        kept = bench.folder.load()
        assert kept.renew_at == pytest.approx(kept.not_after - 9 * DAY)

    bench.run(test)


def test_the_servers_window_decides(bench):
    now = time.time()
    window = {"start": now + DAY, "end": now + 2 * DAY, "ask_in": 100.0}
    due = {"event": "window", "start": now - 20, "end": now - 10, "ask_in": 0.0}
    bench.script = [[issued(window=window)], [due], [issued(OTHER)]]

    async def test():
        source = bench.source()
        await source.obtain()
        await source.changed()
        kept = bench.folder.load()
        assert now + DAY <= kept.renew_at <= now + 2 * DAY
        assert now + 99 <= kept.ask_at <= time.time() + 100

        bench.folder.save(replace(kept, ask_at=now))
        later = bench.source()
        await later.obtain()
        await later.changed()  # asks, hears that it is time, and orders
        assert [order["do"] for order in bench.orders] == ["order", "window", "order"]
        assert (await later.obtain()).pairs[0].chain == OTHER.cert

    bench.run(test)


def test_a_question_without_answer_changes_nothing(bench):
    now = time.time()
    bench.script = [[issued(window={"start": now + DAY, "end": now + DAY, "ask_in": 60.0})], [REFUSED]]

    async def test():
        source = bench.source()
        await source.obtain()
        await source.changed()
        kept = bench.folder.load()
        bench.folder.save(replace(kept, ask_at=now))
        later = bench.source()
        await later.obtain()
        assert await cut(later.changed)
        after = bench.folder.load()
        assert after == replace(kept, ask_at=after.ask_at)
        assert after.ask_at > now + 3600
        assert bench.folder.load_failures() == []

    bench.run(test)


def test_a_full_disk_does_not_keep_it_from_being_served(bench, monkeypatch):
    bench.script = [[issued()]]

    def full(*_):
        raise OSError(28, "No space left on device")

    async def test():
        source = bench.source()
        await source.obtain()
        monkeypatch.setattr(Folder, "save", full)
        await source.changed()
        assert (await source.obtain()).pairs[0].chain == PAIR.cert
        assert any("cannot be kept in" in text and "No space" in text for _, text in bench.said)

    bench.run(test)


def test_a_system_without_processes(bench):
    bench.script = [[BlockingIOError(11, "Resource temporarily unavailable")]]

    async def test():
        source = bench.source()
        await source.obtain()
        assert await cut(source.changed)
        assert "the child process cannot be started: Resource temporarily unavailable" in bench.said[-1][1]

    bench.run(test)


def test_authorities_that_are_not_there_are_told_at_start(bench, tmp_path):
    bench.settings = replace(bench.settings, acme_ca=tmp_path / "none.pem")

    async def test():
        with pytest.raises(Rejected, match=r"none\.pem: no such file"):
            await bench.source().obtain()

    bench.run(test)


def test_nothing_is_ordered_before_anybody_listens(bench):
    bench.script = [[issued()]]
    bench.serving = anyio.Event()

    async def test():
        source = bench.source()
        await source.obtain()
        assert await cut(source.changed)
        assert bench.orders == []
        bench.serving.set()
        await source.changed()
        assert len(bench.orders) == 1

    bench.run(test)
