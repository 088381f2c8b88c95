"""How commands ask the engine something once: they connect, ask, and are done."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from byfahrer import options, settings
from byfahrer.authority.state import StateFolder
from byfahrer.engine.address import EngineAddress
from byfahrer.engine.client import DockerEngine
from byfahrer.swarm.directory import Directory

T = TypeVar("T")
E = TypeVar("E", bound=DockerEngine)


def ask(
    docker_host: str,
    question: Callable[[E], Awaitable[T]],
    *,
    kind: type[E] = DockerEngine,  # type: ignore[assignment] # what E is where nothing is said
    connect: bool = True,
    look_only: bool = False,
    state_dir: str = "",
) -> T:
    """
    The answer. EngineError, and what the question raises.

    `state_dir`: that of the daemon, who may know services that this node's engine cannot tell of.
    """
    directory = Directory.kept(StateFolder(options.state_folder(state_dir)))
    engine = kind(EngineAddress.resolve(docker_host, os.environ), look_only=look_only, directory=directory)

    async def run() -> T:
        if connect:
            await engine.connect()
        return await question(engine)

    try:
        return anyio.run(run)
    except BaseExceptionGroup as group:
        # Tasks side by side fail in groups; the first failure says it all.
        raise first(group) from group


def first(error: BaseException) -> BaseException:
    """The first failure of a group."""
    return first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def setting(text: str) -> tuple[str, str]:
    """What `--set` says; SettingError."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise settings.SettingError(f"--set={text!r}: expected setting=value, such as frontend=:443")
    return name, value
