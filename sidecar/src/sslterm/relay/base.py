"""What the loop and the listeners ask of a connection, whichever of its two sides is the one that speaks TLS."""

from __future__ import annotations

import traceback
from contextlib import suppress
from math import inf
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sslterm.relay.listener import Listener


class BaseConnection:
    """Somebody who connected to one of our listeners, from accept to close."""

    __slots__ = ("listener",)

    listener: Listener

    @property
    def under_way(self) -> bool:
        """Cutting it now would be noticed."""
        raise NotImplementedError

    @property
    def idle_since(self) -> float:
        """When an idle connection became so; infinite for one that is not idle."""
        return inf

    @property
    def pace(self) -> float:
        """Bytes a second at which a client sends or takes a body; infinite if it is no body, or still a young one."""
        return inf

    def drain(self) -> None:
        """Finish what is under way, and begin nothing more."""

    def expect_end(self) -> None:
        """The backend is about to stop."""

    def expect_more(self) -> None:
        """The backend goes on."""

    def strand(self) -> None:
        """The backend listens no more."""

    def evict(self) -> None:
        """Make room for another: only for who is idle."""
        raise NotImplementedError

    def cut(self, fault: str) -> None:
        """Close both sockets at once."""
        raise NotImplementedError

    def _defect(self, error: Exception) -> None:
        trace = reversed(traceback.extract_tb(error.__traceback__))
        where = " < ".join(f"{PurePath(each.filename).name}:{each.lineno} {each.name}" for each in trace)
        self.listener.complain("ERROR", f"unexpected {error!r}, which cost one connection, at {where}")
        with suppress(Exception):  # whatever is broken, the sockets get closed
            self.cut("a defect of sslterm")
