"""What every behaviour test may ask for."""

from __future__ import annotations

import pytest

from lab.sidecar import free_port


@pytest.fixture
def port() -> int:
    """A port for a sidecar's frontend."""
    return free_port()
