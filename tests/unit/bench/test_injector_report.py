"""What the injector's bench makes of its figures, and how it tells calls apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.counting import called
from bench.injector_report import told

ID = "0123456789ab" * 5 + "0123"
CONDITIONS = {
    "date": "2026-01-01 00:00 UTC", "cpu": "one", "cores": 2, "kernel": "6.1", "engine": "20.10", "python": "3.11",
    "command": "make bench-injector", "burst of": 50, "rounds": 3,
}  # fmt: skip


def test_a_call_is_named_by_its_endpoint() -> None:
    calls = Counter(
        called(method, target)
        for method, target in (
            ("GET", f"/containers/{ID}/json"),
            ("GET", "/images/sslterm:latest/json"),
            ("GET", f"/images/sha256:{ID}/json"),
            ("GET", "/containers/json?limit=-1&all=1"),
            ("GET", f"/containers/json?all=1&filters=%7B%22label%22%3A+%5B%22byfahrer.target%3D{ID}%22%5D%7D"),
            ("POST", f"/containers/{ID}/start"),
            ("PUT", f"/containers/{ID}/archive?path=%2Frun"),
        )
    )

    assert calls == {
        "GET /containers/ID/json": 1, "GET /images/NAME/json": 2, "GET /containers/json of all": 1,
        "GET /containers/json of one target": 1, "POST /containers/ID/start": 1, "PUT /containers/ID/archive": 1,
    }  # fmt: skip


def test_a_part_of_the_bench_is_told_alone() -> None:
    text = told({"burst": {"by hand": [10.0, 20.0, 30.0], "byfahrer": [11.0, 26.0, 30.0]}}, CONDITIONS)

    assert "| byfahrer | 26.0 (11.0..30.0) | 1.10 | <= 1.3 |" in text
    assert "| by hand | 20.0 (10.0..30.0) |  |  |" in text
    assert "Cold start" not in text
    assert "Calls" not in text


def test_the_whole_is_told() -> None:
    event = {"a resync": {"GET /containers/json of all": 1}}
    results: dict[str, Any] = {
        "cold": {"first": 1.0, "median": 2.0, "last": 3.0, "ready": 3.5, "cpu": 4.0, "memory": 50.0, "complaints": []},
        "idle": {"share": 0.0051, "memory": 51.0, "targets": 200},
        "calls": {10: event, 200: event},
    }
    text = told(results, CONDITIONS)

    assert "| idle with 200 sidecars, % of a core | 0.51 | < 1 |" in text
    assert "| to the last, s | 3.0 |  |" in text
    assert "| a resync | 1 | 1 | 1 GET /containers/json of all |" in text
