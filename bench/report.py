"""What the rounds say: medians and spread, ratios and bars; as a table, JSON, Markdown and a chart."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.chart import Panel, drawn
from bench.figures import CONNECTIONS, FIGURES, Figure, Plan
from bench.proxies import CIPHER, PROXIES, versions

Results = Mapping[str, Mapping[str, list[float]]]
"""Values of the rounds, by figure and proxy."""

TCP_PEERS = ("nginx stream", "HAProxy tcp", "hitch", "stunnel")
HTTP_PEERS = ("nginx http", "HAProxy http", "Caddy", "Go proxy")


@dataclass(frozen=True)
class Bar:
    """What a figure of sslterm may be at most, as a ratio to the best of some peers."""

    text: str
    figure: str
    ours: str
    peers: tuple[str, ...]
    limit: float

    def met(self, reached: Ratio) -> bool:
        return reached.value <= self.limit


def both(text: str, figure: str, limit: float) -> tuple[Bar, Bar]:
    """A bar for each mode, against the peers of its kind."""
    return (
        Bar(f"{text}, http", figure, "sslterm http", HTTP_PEERS, limit),
        Bar(f"{text}, tcp", figure, "sslterm tcp", TCP_PEERS, limit),
    )


BARS = (
    Bar("CPU per small request, tcp", "small", "sslterm tcp", ("nginx stream", "HAProxy tcp", "hitch"), 1.10),
    Bar("CPU per browser's request, log on, http", "browser", "sslterm http", ("nginx http", "HAProxy http"), 1.25),
    *both("CPU per GB, download", "download", 1.0),
    *both("CPU per GB, upload", "upload", 1.0),
    *both("CPU per full handshake", "handshake", 1.25),
    *both("CPU per resumed handshake", "resumed", 1.25),
    *both("p99 at a fixed rate", "p99", 1.5),
    Bar("private memory, idle, http", "private", "sslterm http", ("HAProxy http",), 1.0),
    Bar("private memory, idle, tcp", "private", "sslterm tcp", ("HAProxy tcp",), 1.0),
    *both("memory per idle connection", "per connection", 1.5),
    Bar("CPU per small request against Caddy", "small", "sslterm http", ("Caddy",), 0.4),
    Bar("CPU per small request against the Go proxy", "small", "sslterm http", ("Go proxy",), 0.4),
)


@dataclass(frozen=True)
class Ratio:
    """Of the rounds' ratios to one peer: the median, the least and the most."""

    value: float
    least: float
    most: float
    peer: str

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.least:.2f}..{self.most:.2f})"


def ratio(values: Mapping[str, list[float]], ours: str, peers: Iterable[str]) -> Ratio | None:
    """
    The median of the rounds' ratios to the best peer: the one with which that median is greatest.

    Within a round both had the same machine; and a peer that was lucky once does not become the best by that.
    """
    found = []
    for peer in peers:
        if ours in values and peer in values:
            rounds = [mine / theirs for mine, theirs in zip(values[ours], values[peer], strict=True)]
            found.append(Ratio(median(rounds), min(rounds), max(rounds), peer))
    return max(found, key=lambda each: each.value, default=None)


def conditions(plan: Plan, quick: bool) -> dict[str, object]:
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.machine())  # fmt: skip
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": "make bench QUICK=1" if quick else "make bench",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "rounds": dict(plan.rounds),
        "plan": {name: value for name, value in asdict(plan).items() if name != "rounds"},
        "connections": CONNECTIONS,
        "tls": f"TLS 1.3, {CIPHER}, X25519, ECDSA P-256",
        "versions": versions(),
    }


NOTES = (
    "{date}, {cpu}, {cores} cores, Linux {kernel}; {command}.",
    """{tls}. The proxy has one core, the load and the backend (nginx, on loopback) have the other; one
    process and one thread each. As root, all runs at nice -10.""",
    """Median (least..most) of the rounds, which alternate between the proxies; * is the best peer. A ratio is
    the median of the rounds' ratios to the best peer. Rounds: {how_often}.""",
    """CPU is the processor time of all processes of the proxy, by their own clocks, for exactly what was counted. A
    handshake is a connection that shakes hands, gets its tickets and says goodbye.""",
    """Latency is that of {rate:,} requests/s, half of what the slowest peer reaches; it counts from the time at
    which each request was due.""",
    """Beside each program runs another instance of it, so pages that instances share are not private. Behind each idle
    connection of the tcp kind waits one of the backend.""",
    """Logs are files, unbuffered as by default: nginx's combined, Caddy's JSON, HAProxy's httplog to stdout, as in
    containers; each line was counted.""",
)


class Report:
    def __init__(self, results: Results, conditions: Mapping[str, object], plan: Plan, abuse: object = None) -> None:
        self._results, self._conditions, self._abuse = results, conditions, abuse
        self._held, self._rounds = plan.held, plan.rounds
        self.figures = [figure for figure in FIGURES if figure.key in results]

    # numbers

    def _label(self, figure: Figure) -> str:
        return figure.label.format(held=self._held)

    def _best(self, figure: Figure, names: Iterable[str]) -> str | None:
        """The best peer among them."""
        values = {name: median(self._results[figure.key][name]) for name in names if name in self._results[figure.key]}
        peers = {name: value for name, value in values.items() if not name.startswith("sslterm")}
        return (max if figure.higher else min)(peers, key=peers.__getitem__, default=None)

    def _ratio(self, figure: Figure, names: list[str]) -> str:
        values = self._results[figure.key]
        ours, best = names[0], self._best(figure, names)
        if not best or ours not in values:
            return ""
        return f"{median(mine / theirs for mine, theirs in zip(values[ours], values[best], strict=True)):.2f}"

    def bars(self) -> list[tuple[Bar, Ratio]]:
        found = ((bar, ratio(self._results.get(bar.figure, {}), bar.ours, bar.peers)) for bar in BARS)
        return [(bar, reached) for bar, reached in found if reached]

    # tables

    def _rows(self, kind: str) -> tuple[list[str], list[list[str]]]:
        names = [proxy.name for proxy in PROXIES if proxy.kind == kind]
        names = [name for name in names if any(name in values for values in self._results.values())]
        rows = []
        for figure in self.figures:
            values = self._results[figure.key]
            if not any(name in values for name in names):
                continue
            best = self._best(figure, names)
            cells = [f"{self._label(figure)}, {figure.unit}"]
            cells += [spread(values[name], figure.digits, name == best) if name in values else "" for name in names]
            rows.append([*cells, self._ratio(figure, names)])
        return ["figure", *names, "sslterm / best peer"], rows

    def _bar_rows(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [bar.text, reached.peer, str(reached), f"<= {bar.limit:.2f}", "met" if bar.met(reached) else "MISSED"]
            for bar, reached in self.bars()
        ]
        return ["bar", "best peer", "ratio", "at most", ""], rows

    def _abuse_rows(self) -> tuple[list[str], list[list[str]]]:
        rows = self._abuse.get("rows", []) if isinstance(self._abuse, dict) else []
        heads = list(dict.fromkeys(key for row in rows for key in row))
        return heads, [[str(row.get(head, "")) for head in heads] for row in rows]

    def _tables(self) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
        tables = (
            ("http", self._rows("http")),
            ("tcp", self._rows("tcp")),
            ("bars", self._bar_rows()),
            ("abuse", self._abuse_rows()),
        )
        return [(name, table) for name, table in tables if table[1]]

    def notes(self) -> list[str]:
        """What a reader has to know to understand the figures, a sentence or two each."""
        how_often = ", ".join(f"{count} {stage}" for stage, count in self._rounds.items())
        notes = [note.format(**self._conditions, how_often=how_often) for note in NOTES]
        return [" ".join(note.split()) for note in notes]

    def screen(self) -> str:
        parts = [aligned(*table) for _, table in self._tables()]
        return "\n\n".join([*parts, "\n".join(self.notes())])

    def markdown(self) -> str:
        titles = {
            "http": "Proxies that read HTTP", "tcp": "Proxies that relay bytes", "bars": "Bars", "abuse": "Under abuse"
        }  # fmt: skip
        parts = [
            "# sslterm and its peers",
            "Made by `make bench`; do not edit. The rounds are in [bench.json](bench.json).",
            "![chart](bench.svg)",
        ]
        parts += ["\n".join(f"- {note}" for note in self.notes())]
        for name, (heads, rows) in self._tables():
            lines = [heads, ["---"] * len(heads), *rows]
            parts += [f"## {titles[name]}", "\n".join("| " + " | ".join(line) + " |" for line in lines)]
        parts += ["## Versions", "\n".join(f"- {name}: {said}" for name, said in self._conditions["versions"].items())]
        return "\n\n".join(parts) + "\n"

    # the rest

    def svg(self) -> str:
        panels = []
        for figure in self.figures:
            if figure.chart:
                values = self._results[figure.key]
                bars = {name: values[name] for name in (proxy.name for proxy in PROXIES) if name in values}
                panels.append(Panel(self._label(figure), figure.unit, figure.digits, bars))
        return drawn(
            "sslterm and its peers: less is better", f"{self._conditions['date']} · {self._conditions['cpu']}", panels
        )

    def json(self) -> str:
        medians = {
            key: {name: median(rounds) for name, rounds in values.items()} for key, values in self._results.items()
        }
        bars = [asdict(bar) | {"reached": asdict(reached), "met": bar.met(reached)} for bar, reached in self.bars()]
        labels = {figure.key: f"{self._label(figure)}, {figure.unit}" for figure in self.figures}
        told = {
            "conditions": self._conditions, "figures": labels, "medians": medians, "bars": bars,
            "rounds": self._results, "abuse": self._abuse,
        }  # fmt: skip
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"

    def save(self, folder: Path) -> list[Path]:
        """bench.json, bench.md and bench.svg, in that folder."""
        written = []
        for ending, text in (("json", self.json()), ("md", self.markdown()), ("svg", self.svg())):
            path = folder / f"bench.{ending}"
            path.write_text(text)
            written.append(path)
        return written


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def spread(rounds: list[float], digits: int, best: bool = False) -> str:
    """The median, and from where to where."""
    text = number(median(rounds), digits) + ("*" if best else "")
    if len(rounds) > 1:
        text += f" ({number(min(rounds), digits)}..{number(max(rounds), digits)})"
    return text


def aligned(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([told[0], "-" * len(told[0]), *told[1:]])
