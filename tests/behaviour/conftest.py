"""What every behaviour test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.sidecar import free_port


@pytest.fixture
def port() -> int:
    """A port for a sidecar's frontend."""
    return free_port()


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """A folder for the sidecar of who calls."""
    return tmp_path / "near"


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder for the sidecar of who is called."""
    return tmp_path / "far"
