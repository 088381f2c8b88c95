"""The authority's roots for a sidecar whose certificate is from elsewhere."""

from __future__ import annotations

import anyio
import pytest

from sslterm.certs.health import Health
from sslterm.certs.link import Refused
from sslterm.certs.roots import Roots


class FakeLink:
    def __init__(self, *answers):
        self.answers = list(answers)

    async def authorities(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def pauses(monkeypatch):
    slept = []

    async def yield_only(seconds):
        slept.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", yield_only)
    return slept


def test_the_first_ones_are_waited_for_and_told_once(pauses):
    log, health = [], Health()
    link = FakeLink(*[Refused("away")] * 15, Refused("busy", retry_after=9), b"roots")
    found = anyio.run(Roots(link, health, lambda *line: log.append(line)).obtain)

    assert found == b"roots"
    assert len(log) == 1
    assert "nothing is served: away; trying again" in log[0][1]
    assert health.failures == 16
    assert max(pauses[:15]) <= 6
    assert pauses[15] == 9


def test_only_others_are_news():
    link = FakeLink(b"one", b"one", Refused("away"), b"two")

    async def scenario():
        roots = Roots(link, Health(), lambda *_: None)
        await roots.obtain()
        await roots.refresh()
        with anyio.move_on_after(0) as early:
            await roots.changed()
        assert early.cancelled_caught
        with pytest.raises(Refused):
            await roots.refresh()
        assert await roots.obtain() == b"one"
        await roots.refresh()
        await roots.changed()
        assert await roots.obtain() == b"two"

    anyio.run(scenario)
