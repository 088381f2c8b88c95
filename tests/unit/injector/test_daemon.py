"""The whole injector on an engine in memory, until a signal."""

import os
import signal

import anyio
import pytest
from loguru import logger

from byfahrer import daemon, settings
from lab.memory_engine import MemoryEngine
from lab.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal_and_leaves_sidecars_running(number):
    lines: list[str] = []
    handler = logger.add(lambda text: lines.append(str(text).rstrip()), level="INFO", format="{message}")
    engine = MemoryEngine()
    key = engine.run("www", {"byfahrer.proxy-image": "sslterm"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(daemon.run, engine, settings.Settings(policy=settings.policy(), resync=30))
        await until(lambda: any(line.startswith("Connected to 'memory' / v'1'") for line in lines))
        assert engine.served(key)
        os.kill(os.getpid(), number)
    logger.remove(handler)

    assert engine.served(key)
    assert engine.streams == []
    assert lines[-1].startswith("Stopped; every proxy container is left running")
