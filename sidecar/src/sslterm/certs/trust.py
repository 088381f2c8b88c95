"""The authority's roots beside a certificate from elsewhere: whose clients to believe, where no file says it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import anyio

from sslterm.certs.authority import check_authorities
from sslterm.certs.bundle import Rejected
from sslterm.certs.renewal import spread
from sslterm.waiting import first_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.certs.bundle import Credentials, Source
    from sslterm.certs.health import Health
    from sslterm.certs.link import Link

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


class WithAuthorities:
    """`source`, with what the authority says of whom to believe; `refresh` asks again, whenever somebody calls it."""

    def __init__(self, source: Source, link: Link, health: Health, report: Callable[[str, str], None]) -> None:
        self._source = source
        self._link = link
        self._health = health
        self._report = report
        self._authorities = b""
        self._others = anyio.Event()

    async def obtain(self) -> Credentials:
        """As `source` has them now. The first time, the authority is waited for as long as it takes."""
        credentials = await self._source.obtain()
        if not self._authorities:
            await self._first()
        self._others = anyio.Event()
        return replace(credentials, authorities=self._authorities)

    async def changed(self) -> None:
        """Return when either half has."""
        await first_of(self._source.changed, self._others.wait)

    async def refresh(self) -> None:
        """Ask the authority. Raises `Rejected`, and then believes whom it believed before."""
        found = await self._link.authorities()
        check_authorities(found)
        if found != self._authorities:
            self._authorities = found
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
                    waiting = "Whose clients to believe is not known yet, so nothing is served"
                    self._report("WARNING", f"{waiting}: {error}; trying again")
                retry_after = getattr(error, "retry_after", 0.0)
            await anyio.sleep(max(spread(pause, 0.2), retry_after))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
