"""
Certificates from one place, and the authorities of clients from another, as one source.

Neither waits for the other: where one cannot be obtained, what it last gave stays, and the other is taken up all the
same. An authority that was removed must go out of force even while the certificate's file is broken.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sslterm.certs.bundle import Rejected
from sslterm.waiting import first_of

if TYPE_CHECKING:
    from sslterm.certs.bundle import Authorities, Credentials, Source


class Joined:
    """The source that is both."""

    def __init__(self, source: Source, authorities: Authorities) -> None:
        self._source = source
        self._authorities = authorities
        self._credentials: Credentials | None = None
        self._believed = b""
        self._due: set[Source | Authorities] = set()
        """Which of the two changed: to obtain the other may cost a new key, or an authority's time."""

    async def obtain(self) -> Credentials:
        """Both as they are now. Raises `Rejected` if one could not be obtained, and never was."""
        due, self._due = self._due or {self._source, self._authorities}, set()
        faults: tuple[str, ...] = ()
        if self._credentials is None or self._source in due:
            try:
                self._credentials = await self._source.obtain()
            except Rejected as error:
                if self._credentials is None:
                    raise
                faults += (str(error),)
        if not self._believed or self._authorities in due:
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

        async def wait(part: Source | Authorities) -> None:
            await part.changed()
            self._due.add(part)

        await first_of(partial(wait, self._source), partial(wait, self._authorities))
