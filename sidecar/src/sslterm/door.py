"""
The frontend's port, open only while the backend listens.

A port that is open without a backend answers 502, where a client or load balancer that finds it closed tries the next
one: so a sidecar's port does what its target's own port would do. That the backend listens no more is heard from the
kernel, or from a connection that it refused; that it listens, only by looking. For a backend in another namespace, and
with listen-when=always, the port is simply open.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from sslterm import netns
from sslterm.closings import Closings
from sslterm.endpoints import as_listed, open_frontend, open_redirect
from sslterm.relay.tally import ACCEPTED
from sslterm.settings import ListenWhen, Mode

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from anyio.abc import TaskGroup

    from sslterm.redirect import Redirect
    from sslterm.relay.policy import Backend
    from sslterm.relay.tally import Tally
    from sslterm.settings import Address, Settings
    from sslterm.waiting import Bell

_SOON: Final = 0.01
_OFTEN: Final = 0.05
_SELDOM: Final = 1.0
"""Seconds from one look to the next; a look takes some 50 µs."""
_SUCCEEDED: Final = 1.0
"""Seconds for which a successor has to listen: one that ends at once is none."""
_LOOK: Final = 0.1
_SHARE: Final = 0.05
"""Of the time that a backend took to listen, by which the port may open later than it."""


class Serves(Protocol):
    """Whoever relays."""

    refused: Bell

    @property
    def tally(self) -> Tally:
        """What it counted."""

    async def serve(self, listener: socket.socket, backends: tuple[Backend, ...]) -> None:
        """Accept at `listener`."""

    def shut(self) -> None:
        """Listen no more."""


class Door:
    """`turned` is called whenever it was opened or shut; `answers`: to an ACME server's checks, by token."""

    def __init__(
        self,
        settings: Settings,
        relay: Serves,
        report: Callable[[str, str], None],
        turned: Callable[[], None],
        answers: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._relay = relay
        self._report = report
        self._turned = turned
        self._answers = answers
        self._address: Address | None = None
        self._own: netns.Listener | None = None
        self.outlet: netns.Listener | None = None
        """A listener of ours for calls to others, which does not wait for the backend."""
        self._backends: tuple[Backend, ...] = ()
        self._redirect: Redirect | None = None
        self._closings: Closings | None = None
        self._tasks: TaskGroup | None = None
        self._news = anyio.Event()
        self._gated = False
        self._listens = True
        """What the last look at the backend found; without any, the port is open."""
        self._blind = False
        self._leaving = False
        self._since = monotonic()
        self.open = False

    async def start(self, tasks: TaskGroup, address: Address, backends: tuple[Backend, ...]) -> None:
        """Open, unless `backends` have to be waited for. Raises `Unable`."""
        self._tasks, self._address, self._backends = tasks, address, backends
        self._gated = self._settings.listen_when is ListenWhen.BACKEND and are_here(backends)
        if self._gated:
            self._closings = self._subscribe()
        if self._backend_listens():
            await self._open()
        else:
            self._report("INFO", f"Waiting for the backend: '{self._settings.frontend_addr}' opens when {address} does")
            self._turned()

    async def keep(self) -> None:
        """Open and shut, as the backend does, until cancelled. Raises `Unable`."""
        if not self._gated:
            return
        if self._closings is None:
            await self._keep()
            return
        try:
            await self._keep(self._closings.heard)
        finally:
            self._closings.close()

    def leave(self) -> None:
        """Open no more; who waits at the redirect's port is still answered."""
        self._leaving = True
        if self._redirect is not None:
            self._redirect.leave()

    def _subscribe(self) -> Closings | None:
        try:
            return Closings(int(self._backends[0].sockaddr[1]))
        except OSError as error:
            self._report("DEBUG", f"The kernel does not tell of listeners that close ({error.strerror}): looking often")
            return None

    async def succeeded(self) -> None:
        """
        Return when another sslterm of this user has listened at our address, too, for a moment (`hand-over`).

        While the frontend is shut, the other's is too: then an address for calls to others tells, if there is one.
        """
        seen = 0
        while seen * _LOOK < _SUCCEEDED:
            await anyio.sleep(_LOOK)
            own, ours = (self._own, self.open) if self.open or self.outlet is None else (self.outlet, True)
            found = self._listening({own.port}) if own else None
            seen = seen + 1 if own and found and found.count(own) > ours else 0

    async def _keep(self, *hints: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as tasks:
            for each in (*hints, self._relay.refused.heard):
                tasks.start_soon(self._take, each)
            accepted, pause = self._relay.tally.total(ACCEPTED), _OFTEN
            while not self._leaving:
                with anyio.move_on_after(pause):
                    await self._news.wait()
                self._news = anyio.Event()
                await self._look()
                accepted, before = self._relay.tally.total(ACCEPTED), accepted
                if not self.open:
                    pause = min(max((monotonic() - self._since) * _SHARE, _SOON), _SELDOM)
                elif self._closings is not None:
                    pause = _SELDOM
                else:
                    pause = _OFTEN if accepted != before else min(pause * 2, _SELDOM)
            tasks.cancel_scope.cancel()

    async def _take(self, hint: Callable[[], Awaitable[None]]) -> None:
        while True:
            await hint()
            self._news.set()
            await anyio.sleep(_OFTEN)  # however many come: a look now and then is enough

    async def _look(self) -> None:
        listens = self._backend_listens()
        if listens == self.open or self._leaving:
            return
        if listens:
            await self._open()
        else:
            self._shut()

    def _backend_listens(self) -> bool:
        if not self._gated:
            return True
        ports = {each.sockaddr[1] for each in self._backends}
        found = self._listening(ports)
        if found is not None:
            self._listens = any(netns.takes(found, str(each.sockaddr[0]), each.sockaddr[1]) for each in self._backends)
        return self._listens

    def _listening(self, ports: set[int]) -> list[netns.Listener] | None:
        """Who listens on `ports`; None where that cannot be seen, as without a free file descriptor."""
        try:
            found = netns.listening(ports)
        except OSError as error:
            if not self._blind:
                self._report("WARNING", f"Cannot look who listens here: {error.strerror or error}; trying again")
            self._blind = True
            return None
        self._blind = False
        return found

    async def _open(self) -> None:
        settings = self._settings
        listener, frontend = open_frontend(settings)
        self._own = as_listed(listener)
        await self._relay.serve(listener, self._backends)
        if settings.redirect_addr is not None:
            self._open_redirect(settings.redirect_addr, frontend.port)
        self.open = True
        self._turned()
        what = "https" if settings.mode is Mode.HTTP else "tls"
        self._report("INFO", f"Serving {what} on '{frontend}' for {self._address} ({settings.tls_profile} profile)")

    def _open_redirect(self, address: Address, port: int) -> None:
        from sslterm.redirect import Redirect

        assert self._tasks is not None  # noqa: S101 - for the type checker: `start` came before
        told = self._redirect is not None
        self._redirect = Redirect(open_redirect(self._settings, address), port, self._answers)
        self._tasks.start_soon(self._redirect.serve)
        if not told:
            self._report("INFO", f"Redirecting http on '{address}' to https on port {port}")

    def _shut(self) -> None:
        self.open = False
        self._since = monotonic()
        self._relay.shut()
        if self._redirect is not None:
            self._redirect.shut()
        self._turned()
        self._report("INFO", f"The backend {self._address} listens no more: closed until it does")


def are_here(backends: Iterable[Backend]) -> bool:
    """Whether all `backends` are in this network namespace, where it can be seen who listens."""
    own = netns.read_addresses()
    return all(netns.is_here(str(each.sockaddr[0]), own) for each in backends)
