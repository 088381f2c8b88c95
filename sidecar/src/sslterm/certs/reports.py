"""Telling the authority, now and then, how things are here; and hearing whether it wants a renewal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from sslterm.certs.bundle import Rejected
from sslterm.certs.renewal import spread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from sslterm.certs.link import Link

_SOON: Final = 1.0
"""Seconds from something to tell to telling it."""
_SPREAD: Final = 0.1
_SHORTEST: Final = 1.0
_LONGEST: Final = 3600.0
"""Seconds between two reports, whatever the authority says."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds to the next try while it does not answer: it learns of all sidecars again that soon after it was away."""


class Reports:
    """
    Sends what `status` returns, for as long as it runs.

    A report that does not arrive is told once, and quietly: it changes nothing here, and what matters (that a
    certificate is not renewed) is told by its source.
    """

    def __init__(self, link: Link, status: Callable[[], Mapping[str, Any]], report: Callable[[str, str], None]) -> None:
        self._link = link
        self._status = status
        self._report = report
        self._renew: Callable[[], object] | None = None
        self._refresh: Callable[[], Awaitable[object]] | None = None
        self._news = anyio.Event()

    def when_asked(self, renew: Callable[[], object]) -> None:
        """What to call when the authority asks for a renewal: only where the certificate is its own."""
        self._renew = renew

    def when_heard(self, refresh: Callable[[], Awaitable[object]]) -> None:
        """What to do after each report that arrived."""
        self._refresh = refresh

    def soon(self) -> None:
        """There is something to tell."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        failures, pause = 0, spread(_SOON, 0.5)
        while True:
            with anyio.move_on_after(pause):
                await self._news.wait()
                await anyio.sleep(spread(_SOON, 0.5))
            self._news = anyio.Event()
            try:
                verdict = await self._link.status(self._status())
                if verdict.renew and self._renew is not None:
                    self._renew()
                if self._refresh is not None:
                    await self._refresh()
            except Rejected as error:
                failures += 1
                if failures == 1:
                    self._report("INFO", f"Status not delivered: {error}; trying again")
                wait = spread(min(2.0 ** min(failures - 1, 16), _LONGEST_PAUSE), 0.2)
                pause = max(wait, getattr(error, "retry_after", 0.0))
            else:
                failures, pause = 0, spread(min(max(verdict.again_in, _SHORTEST), _LONGEST), _SPREAD)
