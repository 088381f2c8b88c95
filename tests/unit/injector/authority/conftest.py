"""Log lines, for tests that look for what is in them and for what must not be."""

import pytest
from loguru import logger


@pytest.fixture
def said():
    """Every log line, of any level."""
    lines: list[str] = []
    handler = logger.add(lambda text: lines.append(str(text).rstrip()), level="TRACE", format="{message}")
    yield lines
    logger.remove(handler)
