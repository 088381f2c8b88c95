"""
The relay in this process, on a thread of its own: what `workers.Pool` does with several, for one.

It asks the store for each connection's certificate, so that there is nothing to be told when another comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from sslterm.access_log import AccessLog
from sslterm.certs import challenge
from sslterm.relay.listener import shut
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Policy
from sslterm.relay.tally import Tally
from sslterm.waiting import Bell

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from sslterm.certs.store import Identity, Store
    from sslterm.relay.policy import Backend
    from sslterm.settings import Settings

_STANDARD_OUTPUT: Final = 1


class Single:
    """One relay."""

    def __init__(self, settings: Settings, store: Store, report: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._store = store
        self._report = report
        self._relay = Relay()
        self._access_log: AccessLog | None = None
        self._challenge: ssl.SSLContext | None = None
        self.tally = Tally()
        self.refused = Bell()
        """Rung when the backend refuses a connection."""
        self._listener: socket.socket | None = None

    @property
    def cut(self) -> int:
        """Connections that were cut at the end."""
        return self._relay.cut

    async def start(self, identity: Identity) -> None:
        """Nothing: it asks the store for each connection's certificate."""

    async def renew(self, identity: Identity) -> None:
        """Nothing, as above."""

    async def challenge(self, proofs: Sequence[challenge.Proof]) -> None:
        """Answer an ACME server's checks with `proofs`, or none any more."""
        self._challenge = challenge.build(proofs)

    async def serve(self, listener: socket.socket, backends: tuple[Backend, ...]) -> None:
        """Accept at `listener`."""
        self._listener = listener
        policy = Policy(
            settings=self._settings,
            context=self._store.context,
            challenge=lambda: self._challenge,
            own_uri=self._store.own_uri,
            backends=backends,
            access_log=self._open_log(),
            report=self._report,
            tally=self.tally,
            refused=self.refused.ring,
        )
        self._relay.add(listener, policy)

    async def call_others(self, listeners: Sequence[socket.socket]) -> None:
        """Accept at `listeners`, in the order of the setting `outbound`, who calls others by them."""
        for outbound, listener in zip(self._settings.outbound, listeners, strict=True):
            policy = Policy(
                settings=self._settings,
                context=self._store.client,
                outbound=outbound,
                access_log=self._open_log(),
                report=self._report,
                tally=self.tally,
            )
            self._relay.add(listener, policy)

    def _open_log(self) -> AccessLog | None:
        if self._settings.access_log and self._access_log is None:
            self._access_log = AccessLog(_STANDARD_OUTPUT, self._settings.log_format)
        return self._access_log

    def shut(self) -> None:
        """Listen no more, from now on; what is served is served on."""
        if self._listener is not None:
            shut(self._listener)  # the relay sees it, and closes it
            self._listener = None

    async def run(self) -> None:
        """Relay until drained or stopped."""
        try:
            await anyio.to_thread.run_sync(self._relay.run, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            self._relay.stop()  # another task failed: the process must not wait for this thread
            raise

    def drain(self, timeout: float) -> None:
        """Accept who waits, finish what is under way, cut what is left after `timeout` seconds."""
        self._relay.drain(timeout)

    def lame_duck(self, seconds: float) -> None:
        """For so long, tell HTTP clients that each response is the last on its connection."""
        self._relay.lame_duck(seconds)

    def stop(self) -> None:
        """Cut everything, now."""
        self._relay.stop()

    def close(self) -> None:
        """Write what is left of the log."""
        self.refused.close()
        if self._access_log is not None:
            self._access_log.close()
