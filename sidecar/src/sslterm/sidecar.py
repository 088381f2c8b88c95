"""
A sidecar's life: certificate, backend, frontend, relay; then signals and certificate changes until it is told to go.

The composition root: the only module that knows all parts. The relay blocks on a thread of its own; here, on the main
thread, anyio waits for signals and for certificates. The two meet in the store (the relay asks it for the context of
each handshake) and in the relay's own methods.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from anyio import CancelScope

from sslterm import netns
from sslterm.access_log import AccessLog
from sslterm.admin import Admin
from sslterm.certs.bundle import Rejected, Source
from sslterm.certs.files import FilePair
from sslterm.certs.health import Health
from sslterm.certs.selfsigned import SelfSigned
from sslterm.certs.store import Identity, Store
from sslterm.endpoints import Unable, find_backends, fit_connections, open_frontend, try_frontend
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Policy
from sslterm.relay.tally import Tally
from sslterm.settings import ClientAuth, Mode, Settings
from sslterm.status import Status
from sslterm.waiting import first_of

if TYPE_CHECKING:
    import socket

    from anyio.abc import TaskGroup

    from sslterm.certs.bundle import Credentials
    from sslterm.certs.maker import Maker
    from sslterm.certs.reports import Reports
    from sslterm.relay.policy import Backend
    from sslterm.workers import Pool

Report = Callable[[str, str], None]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STANDARD_OUTPUT: Final = 1


class _Phase(enum.StrEnum):
    STARTING = enum.auto()
    SERVING = enum.auto()
    DRAINING = enum.auto()


def run(settings: Settings, maker: Maker, report: Report) -> int:
    """Be a sidecar until told to stop; the exit code."""
    try:
        return anyio.run(_Sidecar(settings, maker, report).live)
    finally:
        for each in _SIGNALS:  # asyncio puts the default actions back: a late signal would change the exit code
            signal.signal(each, signal.SIG_IGN)


class _Sidecar:
    def __init__(self, settings: Settings, maker: Maker, report: Report) -> None:
        self._settings = settings = fit_connections(settings, report)
        self._maker = maker
        self._report = report
        self._phase = _Phase.STARTING
        self._reload = anyio.Event()
        self._store = Store(settings.mode, settings.tls_profile)
        self._health = Health()
        self._reports: Reports | None = None
        self._admin: Admin | None = None
        kind, source = self._choose_source()
        self._relay = self._choose_relay()
        self._status = Status(
            settings, kind, self._store, self._health, lambda: self._relay.tally, lambda: str(self._phase)
        )
        self._source = self._ask_authority(source)

    async def live(self) -> int:
        refusal: Unable | None = None
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, tasks.cancel_scope)
                try:
                    self._open_admin(tasks)
                    await self._start(tasks)
                    tasks.start_soon(self._keep_certificate, CancelScope())
                    if self._reports is not None:
                        tasks.start_soon(self._reports.run)
                    await self._relay.run()
                except Unable as error:
                    refusal = error
                tasks.cancel_scope.cancel()
        self._relay.close()
        if self._admin is not None:
            self._admin.close()
        if refusal is not None:
            self._report("ERROR", str(refusal))
            return refusal.code
        return self._farewell()

    def _choose_relay(self) -> _OwnRelay | Pool:
        if self._settings.workers == 1:
            return _OwnRelay(self._settings, self._store, self._report)
        from sslterm.workers import Pool

        return Pool(self._settings, self._report)

    def _choose_source(self) -> tuple[str, Source | None]:
        """What it is called, and the source; None for the authority's."""
        cert, key = self._settings.cert, self._settings.key
        if cert is not None and key is not None:
            return "files", FilePair(cert, key)
        if self._settings.authority is not None:
            return "authority", None
        return "self-signed", SelfSigned(self._maker, netns.read_addresses)

    def _ask_authority(self, source: Source | None) -> Source:
        """`source`, or the authority's certificates for None; with all that an authority is asked and told."""
        settings = self._settings
        if settings.authority is None or settings.authority_token is None:
            if source is None:
                raise RuntimeError("no source of certificates")
            return source
        # Only here: a sidecar without an authority is to hold no code for it.
        from sslterm.certs.authority import Authority
        from sslterm.certs.link import Link
        from sslterm.certs.reports import Reports

        link = Link(settings.authority, settings.authority_token)
        renew: Callable[[], None] | None = None
        refresh: Callable[[], Awaitable[None]] | None = None
        if source is None:
            source = Authority(link, self._maker, netns.read_addresses, self._health, self._report)
            renew = source.ask_for_renewal
        elif settings.client_auth is not ClientAuth.NONE and settings.client_ca is None:
            from sslterm.certs.trust import WithAuthorities

            source = WithAuthorities(source, link, self._health, self._report)
            refresh = source.refresh
        self._reports = Reports(link, self._status.for_authority, self._report, renew=renew, refresh=refresh)
        return source

    def _open_admin(self, tasks: TaskGroup) -> None:
        address = self._settings.admin_addr
        if address is None:
            return
        try:
            self._admin = Admin(address, self._status.pages(), take_over=self._settings.hand_over)
        except OSError as error:
            raise Unable(f"admin-addr={address}: {error.strerror}", 1) from None
        tasks.start_soon(self._admin.serve)

    async def _start(self, tasks: TaskGroup) -> None:
        settings = self._settings
        try_frontend(settings)  # what cannot be bound is told now, not after the wait for a backend
        identity = await self._first_certificate()
        waiting = CancelScope()
        tasks.start_soon(self._keep_certificate, waiting)  # a backend may be waited for longer than a certificate lives
        address, backends = await find_backends(settings, self._report)
        waiting.cancel()
        identity = self._store.current or identity
        # Only then: until the backend is there, clients are refused as they would be without a sidecar; and `auto`
        # must not take a port that the target was about to open.
        await self._relay.start(identity.credentials)
        listener, frontend = open_frontend(settings)
        await self._relay.serve(listener, backends)
        self._phase = _Phase.SERVING
        what = "https" if settings.mode is Mode.HTTP else "tls"
        profile = settings.tls_profile
        self._report("INFO", f"Serving {what} on '{frontend}' for {address} ({profile} profile)")

    async def _first_certificate(self) -> Identity:
        settings = self._settings
        if settings.cert is not None:
            self._report("INFO", f"Load cert '{settings.cert}' and key '{settings.key}'")
        elif settings.authority is not None:
            self._report("INFO", f"Ask the authority at '{settings.authority}' for a certificate")
        else:
            self._report("INFO", "No certificate given: making a self-signed one")
        try:
            identity = self._store.put(await self._source.obtain())
        except Rejected as error:
            setting, code = ("cert", 2) if settings.cert else ("certificate", 1)
            raise Unable(f"{setting}: {error}", code) from None
        self._health.renewed()
        self._tell("Certificate:", identity)
        return identity

    def _tell(self, what: str, identity: Identity) -> None:
        fault = self._store.fault(identity)
        if fault:
            self._report("WARNING", f"{what} {identity}: {fault}, clients will not accept it")
        else:
            self._report("INFO", f"{what} {identity}")

    async def _obey(self, signals: AsyncIterator[signal.Signals], life: CancelScope) -> None:
        async for number in signals:
            if number is signal.SIGHUP:
                if self._phase is _Phase.SERVING:
                    self._reload.set()
            elif self._phase is _Phase.STARTING:
                life.cancel()
            elif self._phase is _Phase.SERVING:
                self._phase = _Phase.DRAINING
                limit = self._settings.drain_timeout
                self._report("INFO", f"{number.name}: finishing what is under way, for up to {limit:g} s")
                self._relay.drain(limit)
            else:
                self._report("WARNING", f"{number.name} again: stopping at once")
                self._relay.stop()

    async def _keep_certificate(self, scope: CancelScope) -> None:
        with scope:
            while True:
                await first_of(self._source.changed, self._reload.wait)
                self._reload = anyio.Event()
                if self._phase is _Phase.DRAINING:
                    return
                await self._renew_certificate()

    async def _renew_certificate(self) -> None:
        before = self._store.current
        try:
            identity = self._store.put(await self._source.obtain())
        except Rejected as error:
            self._health.failed(str(error))
            self._report("ERROR", f"Certificate not reloaded, the one before stays in force: {error}")
        else:
            self._health.renewed()
            if identity is not before and self._phase is _Phase.SERVING:
                await self._relay.renew(identity.credentials)
            self._tell("Certificate unchanged:" if identity is before else "Certificate reloaded:", identity)
        if self._reports is not None:
            self._reports.soon()

    def _farewell(self) -> int:
        if self._phase is _Phase.STARTING:
            return 0
        served = self._relay.tally
        if self._relay.cut:
            self._report("WARNING", f"Stopped; {self._relay.cut} connections were cut in the middle; {served}")
            return 1
        self._report("INFO", f"Stopped; {served}")
        return 0


class _OwnRelay:
    """The relay in this process, on a thread of its own: what `Pool` does with several, for one."""

    def __init__(self, settings: Settings, store: Store, report: Report) -> None:
        self._settings = settings
        self._store = store
        self._report = report
        self._relay = Relay()
        self._access_log: AccessLog | None = None
        self.tally = Tally()

    @property
    def cut(self) -> int:
        """Connections that were cut at the end."""
        return self._relay.cut

    async def start(self, credentials: Credentials) -> None:
        """Nothing: it asks the store for each connection's certificate."""

    async def renew(self, credentials: Credentials) -> None:
        """Nothing, as above."""

    async def serve(self, listener: socket.socket, backends: tuple[Backend, ...]) -> None:
        """Accept at `listener`."""
        if self._settings.access_log:
            self._access_log = AccessLog(_STANDARD_OUTPUT, self._settings.log_format)
        policy = Policy(
            settings=self._settings,
            context=self._store.context,
            backends=backends,
            access_log=self._access_log,
            report=self._report,
            tally=self.tally,
        )
        self._relay.add(listener, policy)

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

    def stop(self) -> None:
        """Cut everything, now."""
        self._relay.stop()

    def close(self) -> None:
        """Write what is left of the log."""
        if self._access_log is not None:
            self._access_log.close()
