"""One question to a socket of another byfahrer, whose answer is of use but not needed."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 1.0
"""Seconds for each step; it answers from memory."""
LARGEST: Final = 64 * 1024**2
"""Bytes that are read: a target has a kilobyte or so."""


def get(path: Path, target: str) -> Any:  # noqa: ANN401 - JSON
    """What the socket at `path` says, from JSON; None if there is nothing to be had."""
    connection = http.client.HTTPConnection("byfahrer", timeout=PATIENCE)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(os.fspath(path))
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read(LARGEST)
        whole = answer.status == http.client.OK and not answer.length
        return json.loads(body) if whole else None
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return None
    finally:
        connection.close()
