"""A client of the admin socket, and a reader of what Prometheus would read there."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from lab.backend import Peer


def converse(path: Path, request: bytes) -> bytes:
    """Send it, and read to the end."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(path))
        peer = Peer(raw)
        peer.send(request)
        return peer.rest()


def ask(path: Path, target: str, method: str = "GET") -> tuple[int, str]:
    """An answer's status and body."""
    head, _, body = converse(path, f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body.decode()


def status(path: Path) -> dict:
    code, text = ask(path, "/status")
    assert code == 200, text
    return json.loads(text)


def metrics(path: Path) -> dict[str, float]:
    """Samples by name and labels; all of it must be in Prometheus' text format."""
    code, text = ask(path, "/metrics")
    assert code == 200, text
    assert text.endswith("\n")
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            assert kind == ("counter" if name.endswith("_total") else "gauge"), line
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            name, _, value = line.rpartition(" ")
            assert name.partition("{")[0] in kinds, line
            assert name not in found, line
            found[name] = float(value)
    return found
