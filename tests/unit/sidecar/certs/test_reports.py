"""Reports come when they are due or when there is news; what the authority answers is done."""

from __future__ import annotations

import anyio
import pytest

from lab.waiting import until
from sslterm.certs.link import Refused, Verdict
from sslterm.certs.reports import Reports


class FakeLink:
    """Answers with what is next, and then asks for nothing within the hour; the last one ends the test."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.told = []

    async def status(self, report):
        self.told.append(report)
        if not self.answers:
            raise EndOfTestError
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class EndOfTestError(Exception):
    pass


@pytest.fixture
def pauses(monkeypatch):
    """Seconds to each report, and no time spent."""
    slept, real = [], anyio.move_on_after

    def move_on_after(seconds):
        slept.append(seconds)
        return real(0)

    monkeypatch.setattr(anyio, "move_on_after", move_on_after)
    return slept


def run(link, renew=None, refresh=None):
    log = []
    reports = Reports(link, lambda: {"n": len(link.told)}, lambda level, line: log.append((level, line)))
    if renew is not None:
        reports.when_asked(renew)
    if refresh is not None:
        reports.when_heard(refresh)
    with pytest.raises(EndOfTestError):
        anyio.run(reports.run)
    return log


def test_they_come_as_often_as_the_authority_says_within_reason(pauses):
    link = FakeLink(*(Verdict(renew=False, again_in=each) for each in (60, 0.001, 1e9)))
    assert run(link) == []

    assert link.told == [{"n": 0}, {"n": 1}, {"n": 2}, {"n": 3}]
    for pause, (least, most) in zip(pauses, [(0.5, 1.5), (54, 66), (0.9, 1.1), (3240, 3960)], strict=True):
        assert least <= pause <= most


@pytest.mark.usefixtures("pauses")
def test_a_renewal_that_is_asked_for_is_passed_on():
    asked = []
    run(FakeLink(Verdict(renew=False, again_in=1), Verdict(renew=True, again_in=1)), renew=lambda: asked.append(1))
    assert asked == [1]

    run(FakeLink(Verdict(renew=True, again_in=1)))  # a certificate from elsewhere: nobody is asked


def test_an_authority_that_is_away_is_told_once_and_tried_again(pauses):
    away = Refused("away")
    log = run(FakeLink(*[away] * 10, Verdict(renew=False, again_in=60), Refused("busy", retry_after=200)))

    assert log == [("INFO", f"Status not delivered: {each}; trying again") for each in ("away", "busy")]
    assert [round(each / 1.2 - 1) <= wanted <= round(each / 0.8 + 1) for each, wanted in
            zip(pauses[1:11], [1, 2, 4, 8, 16, 32, 60, 60, 60, 60], strict=True)] == [True] * 10  # fmt: skip
    assert pauses[-1] == 200


@pytest.mark.usefixtures("pauses")
def test_authorities_are_asked_for_after_each_report_that_arrived():
    refreshed = []

    async def refresh():
        refreshed.append(1)
        if len(refreshed) == 2:
            raise Refused("away again")

    log = run(FakeLink(Refused("away"), *[Verdict(renew=False, again_in=1)] * 3), refresh=refresh)

    assert len(refreshed) == 3
    assert len(log) == 2


def test_news_is_told_soon():
    link = FakeLink(Verdict(renew=False, again_in=3600))

    async def scenario():
        reports = Reports(link, dict, lambda *_: None)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(reports.run)
                await until(lambda: link.told)
                reports.soon()

    with pytest.raises(ExceptionGroup) as group:
        anyio.run(scenario)

    assert group.group_contains(EndOfTestError)
    assert len(link.told) == 2
