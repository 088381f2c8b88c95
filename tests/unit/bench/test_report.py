"""What the benchmark makes of its rounds: ratios, bars, tables, and a chart."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from bench.chart import Panel, drawn
from bench.figures import FIGURES, FULL, STAGES
from bench.lab import wrk_figures
from bench.proxies import PROXIES
from bench.report import BARS, Bar, Report, aligned, conditions, ratio, spread

WRK = """Running 2s test @ https://127.0.0.1:9447/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.30ms    1.09ms  25.06ms   92.31%
    Req/Sec    28.44k     2.19k   31.02k    85.00%
  56789 requests in 2.01s, 9.72MB read
Requests/sec:  28253.73
Transfer/sec:      4.84MB
"""
FAILED = (
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 50000\nRequests/sec:"
)


def test_wrks_requests_and_rate_are_read() -> None:
    assert wrk_figures(WRK) == {"requests": 56789, "rate": 28253.73, "failed": 0}


def test_every_kind_of_failure_that_wrk_counts_is_counted() -> None:
    assert wrk_figures(WRK.replace("Requests/sec:", FAILED))["failed"] == 54321


def test_what_wrk_does_not_say_is_an_error() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        wrk_figures("unable to connect to 127.0.0.1:9447 Connection refused\n")


def test_a_ratio_is_taken_within_each_round() -> None:
    reached = ratio({"us": [10.0, 40.0, 12.0], "peer": [10.0, 20.0, 10.0]}, "us", ["peer"])
    assert reached is not None
    assert (reached.value, reached.least, reached.most, reached.peer) == (1.2, 1.0, 2.0, "peer")


def test_a_peer_that_was_lucky_once_is_not_the_best() -> None:
    reached = ratio({"us": [10.0] * 3, "lucky": [1.0, 20.0, 20.0], "steady": [8.0] * 3}, "us", ["lucky", "steady"])
    assert reached is not None
    assert reached.peer == "steady"


def test_without_a_peer_there_is_no_ratio() -> None:
    assert ratio({"us": [1.0]}, "us", ["peer"]) is None


@pytest.mark.parametrize(("ours", "met"), [([1.1], True), ([1.11], False)])
def test_a_bar_is_met_up_to_its_limit(ours: list[float], met: bool) -> None:
    bar = Bar("a bar", "small", "us", ("peer",), 1.1)
    reached = ratio({"us": ours, "peer": [1.0]}, "us", bar.peers)
    assert reached is not None
    assert bar.met(reached) is met


def test_bars_name_figures_and_proxies_that_exist() -> None:
    assert {bar.figure for bar in BARS} <= {figure.key for figure in FIGURES}
    assert {name for bar in BARS for name in (bar.ours, *bar.peers)} <= {proxy.name for proxy in PROXIES}


def test_one_round_has_no_spread() -> None:
    assert (spread([1234.56], 1), spread([3.0, 1.0, 2.0], 0, best=True)) == ("1,234.6", "2* (1..3)")


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned(["a", "long"], [["wide cell", "b"]]).splitlines() == ["a          long", "-" * 15, "wide cell  b"]


def results() -> dict[str, dict[str, list[float]]]:
    return {figure.key: {proxy.name: [2.0, 1.0, 3.0] for proxy in PROXIES} for figure in FIGURES}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr("bench.report.versions", lambda: {"nginx http": "nginx/1.22 <&>"})
    rows = {"rows": [{"abuse": "slow heads", "ratio": 1.5}]}
    return Report(results(), conditions(FULL, quick=False) | {"rate": 5000}, FULL, rows)


def test_all_that_was_measured_is_on_the_screen_and_in_the_page(report: Report) -> None:
    for text in (report.screen(), report.markdown()):
        for proxy in PROXIES:
            assert proxy.name in text
        for bar in BARS:
            assert bar.text in text
        assert "8,000 idle connections" in text
        assert "slow heads" in text
        assert all(f"{FULL.rounds[stage]} {stage}" in text for stage in STAGES)


def test_the_charts_are_well_formed_and_show_every_proxy(report: Report) -> None:
    chart = ET.fromstring(report.svg())
    texts = [each.text for each in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert {proxy.name for proxy in PROXIES} <= set(texts)


def test_a_chart_escapes_what_it_is_given() -> None:
    chart = ET.fromstring(drawn("<&", "<&", [Panel("<&", "<&", 1, {"<&": [0.0]})]))
    assert sum(each.text == "<&" for each in chart.iter("{http://www.w3.org/2000/svg}text")) == 5
