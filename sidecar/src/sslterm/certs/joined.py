"""
Certificates from one place, and the authorities of clients from another, as one source.

Neither waits for the other: where one cannot be obtained, what it last gave stays, and the other is taken up all the
same. An authority that was removed must go out of force even while the certificate's file is broken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from sslterm.certs.bundle import Rejected

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sslterm.certs.bundle import Authorities, Credentials, Source


class Joined:
    """The source that is both."""

    def __init__(self, source: Source, authorities: Authorities) -> None:
        self._source = source
        self._authorities = authorities
        self._credentials: Credentials | None = None
        self._believed = b""

    async def obtain(self) -> Credentials:
        """Both as they are now. Raises `Rejected` if one could not be obtained, and never was."""
        faults: tuple[str, ...] = ()
        try:
            self._credentials = await self._source.obtain()
        except Rejected as error:
            if self._credentials is None:
                raise
            faults += (str(error),)
        try:
            self._believed = await self._authorities.obtain()
        except Rejected as error:
            if not self._believed:
                raise
            faults += (str(error),)
        return replace(
            self._credentials,
            authorities=self._believed,
            authorities_source=self._authorities.source,
            faults=(*self._credentials.faults, *faults),
        )

    async def changed(self) -> None:
        """Return when either is worth obtaining again."""
        async with anyio.create_task_group() as race:

            async def wait(changed: Callable[[], Awaitable[None]]) -> None:
                await changed()
                race.cancel_scope.cancel()

            race.start_soon(wait, self._source.changed)
            race.start_soon(wait, self._authorities.changed)
