"""How many connections this process may have memory and file descriptors for."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.settings import Settings

_SPARE_DESCRIPTORS: Final = 64
"""Besides two for each connection: the process itself holds about 20."""
_REDIRECT_DESCRIPTORS: Final = 66
"""And for the redirect's listener and its connections, where there is one."""

_CONNECTION_MEMORY: Final = 200 * 1024
"""Bytes that one connection can hold, both of whose ends are slow."""
_SPARE_MEMORY: Final = 40 * 1024 * 1024
"""Bytes that the process takes by itself."""
_WORKER_MEMORY: Final = 24 * 1024 * 1024
"""Bytes that each worker takes by itself, where there are several."""
_LIMIT_FILES: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the control group that this process sees as its own; of versions 2 and 1."""


def fit_connections(settings: Settings, report: Callable[[str, str], None]) -> Settings:
    """`settings` with no more connections than this process may have memory and file descriptors for."""
    memory = _memory_limit()
    spare = _SPARE_MEMORY + (_WORKER_MEMORY * settings.workers if settings.workers > 1 else 0)
    possible = max((memory - spare) // _CONNECTION_MEMORY, 1) if memory else settings.max_connections
    if possible < settings.max_connections:
        report(
            "WARNING",
            f"max-connections={settings.max_connections}: lowered to {possible}, as many as the container's "
            f"memory limit of {memory // 1024**2} MiB allows",
        )
        settings = replace(settings, max_connections=possible)
    reserve = _SPARE_DESCRIPTORS + (_REDIRECT_DESCRIPTORS if settings.redirect_addr else 0)
    reserve += 2 * len(settings.outbound)  # a listener, and a look at the name server
    needed = 2 * settings.max_connections + reserve
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return settings
    possible = max((soft - reserve) // 2, 1)
    report(
        "WARNING",
        f"max-connections={settings.max_connections}: lowered to {possible}, as many as {soft} file descriptors allow",
    )
    return replace(settings, max_connections=possible)


def _memory_limit() -> int:
    """Bytes that this container may use; 0 where there is no limit, or none to be seen."""
    for path in _LIMIT_FILES:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        # Version 1 writes "none" as the largest number of whole pages.
        return int(text) if text.isdigit() and int(text) < 1 << 60 else 0
    return 0
