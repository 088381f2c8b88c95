"""The authority's roots beside a certificate from elsewhere: whose clients to believe, where no file says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from sslterm.certs.bundle import Rejected
from sslterm.certs.renewal import spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.certs.health import Health
    from sslterm.certs.link import Link

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


class Roots:
    """Those that the authority told last; `refresh` asks again, whenever somebody calls it."""

    source: str = "authority"

    def __init__(self, link: Link, health: Health, report: Callable[[str, str], None]) -> None:
        self._link = link
        self._health = health
        self._report = report
        self._found = b""
        self._others = anyio.Event()

    async def obtain(self) -> bytes:
        """PEM. The first time, the authority is waited for as long as it takes."""
        if not self._found:
            await self._first()
        self._others = anyio.Event()
        return self._found

    async def changed(self) -> None:
        """Return when there are others."""
        await self._others.wait()

    async def refresh(self) -> None:
        """Ask the authority. Raises `Rejected`, and then those from before stay."""
        found = await self._link.authorities()
        if found != self._found:
            self._found = found
            self._others.set()

    async def _first(self) -> None:
        pause, told = _FIRST_PAUSE, False
        while True:
            try:
                return await self.refresh()
            except Rejected as error:
                self._health.failed(str(error))
                if not told:
                    told = True
                    waiting = "Whom to believe is not known yet, so nothing is served"
                    self._report("WARNING", f"{waiting}: {error}; trying again")
                retry_after = getattr(error, "retry_after", 0.0)
            await anyio.sleep(max(spread(pause, 0.2), retry_after))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
