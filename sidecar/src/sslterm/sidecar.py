"""
A sidecar's life: certificate, backend, frontend, relay; then signals and certificate changes until it is told to go.

The composition root: the only module that knows all parts. The relay blocks on a thread of its own; here, on the main
thread, anyio waits for signals and for certificates. The two meet in the store (the relay asks it for the context of
each handshake) and in the relay's own methods.

Long, because it is one life: each step of it decides what the next ones find. What a step does is elsewhere.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

import anyio
from anyio import CancelScope

from sslterm import netns
from sslterm.audit import Audit
from sslterm.bypass import own_addresses
from sslterm.capacity import fit_connections
from sslterm.certs import tickets
from sslterm.certs.bundle import Rejected, Source
from sslterm.certs.files import AuthoritiesFile, FilePair
from sslterm.certs.folder import Folder
from sslterm.certs.health import Health
from sslterm.certs.joined import Joined
from sslterm.certs.selfsigned import SelfSigned
from sslterm.certs.store import Identity, Store
from sslterm.door import Door
from sslterm.endpoints import Unable, as_listed, find_backends, open_outbound, try_addresses
from sslterm.settings import AUTO, Mode, Settings
from sslterm.single import Single
from sslterm.waiting import first_of

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from sslterm.admin import Admin
    from sslterm.certs.bundle import Authorities
    from sslterm.certs.link import Link
    from sslterm.certs.maker import Maker
    from sslterm.certs.reports import Reports
    from sslterm.relay.policy import Backend
    from sslterm.settings import Address
    from sslterm.status import Status
    from sslterm.workers import Pool

Report = Callable[[str, str], None]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class _Phase(enum.StrEnum):
    STARTING = enum.auto()
    WAITING = enum.auto()
    """For the backend."""
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
        self._relief = anyio.Event()
        """Set when we are to leave as soon as another one serves."""
        self._health = Health()
        self._audit = Audit(report, own_addresses(settings))
        self._store = Store(settings.mode, settings.tls_profile, settings.client_auth, calls=bool(settings.outbound))
        self._relay = self._choose_relay()
        self._serving = anyio.Event()
        self._answers: dict[str, str] = {}
        """To an ACME server's checks by HTTP, by token."""
        self._door = Door(settings, self._relay, report, self._turned, self._answers)
        self._relaying = False
        self._refusal: Unable | None = None
        self._link = self._make_link()
        self._reports = self._make_reports()
        self._source = self._choose_source()
        self._admin: Admin | None = None

    async def live(self) -> int:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, tasks.cancel_scope)
                try:
                    self._open_admin(tasks)
                    await self._start(tasks)
                    if self._settings.outbound:  # the target may call others while it starts, before it listens
                        await self._call_others(tasks)
                    else:
                        await self._serve(tasks)
                    self._relaying = True
                    tasks.start_soon(self._leave_to_another)
                    tasks.start_soon(self._keep_certificate)
                    tasks.start_soon(self._rotate_tickets)
                    await self._relay.run()
                except Unable as error:
                    self._refusal = error
                tasks.cancel_scope.cancel()
        self._relay.close()
        if self._admin is not None:
            self._admin.close()
        if self._refusal is not None:
            self._report("ERROR", str(self._refusal))
            return self._refusal.code
        return self._farewell()

    def _choose_relay(self) -> Single | Pool:
        if self._settings.workers == 1:
            return Single(self._settings, self._store, self._report)
        from sslterm.workers import Pool

        return Pool(self._settings, self._report)

    def _make_status(self) -> Status:
        from sslterm.status import Status

        return Status(self._settings, self._store, self._health, self._relay, lambda: str(self._phase), self._audit)

    def _make_link(self) -> Link | None:
        """The way to byfahrer's authority; here, because a sidecar without one is to hold no code for it."""
        settings = self._settings
        if settings.authority is None or settings.authority_token is None:
            return None
        from sslterm.certs.link import Link

        return Link(settings.authority, settings.authority_token)

    def _make_reports(self) -> Reports | None:
        if self._link is None:
            return None
        from sslterm.certs.reports import Reports

        return Reports(self._link, self._make_status().for_authority, self._report)

    def _choose_source(self) -> Source:
        authorities = self._choose_authorities()
        source = self._choose_pairs()
        return source if authorities is None else Joined(source, authorities)

    def _choose_pairs(self) -> Source:
        """Where certificates come from."""
        settings = self._settings
        if settings.cert is not None and settings.key is not None:
            return FilePair(settings.cert, settings.key)
        if settings.cert_dir is not None:
            return Folder(settings.cert_dir)
        if settings.acme:
            from sslterm.certs.acme import Acme, Checks

            checks = Checks(self._serving.wait, self._relay.challenge, self._answers)
            return Acme(settings, self._maker, self._health, self._report, checks)
        if self._link is None or self._reports is None:
            return SelfSigned(self._maker, netns.read_addresses)
        from sslterm.certs.authority import Authority

        source = Authority(self._link, self._maker, netns.read_addresses, self._health, self._report)
        self._reports.when_asked(source.ask_for_renewal)
        return source

    def _choose_authorities(self) -> Authorities | None:
        """Where the authorities of others come from; None if from nowhere, or along with the certificates."""
        settings = self._settings
        if not settings.believes:
            return None
        if settings.client_ca is not None:
            return AuthoritiesFile(settings.client_ca)
        if self._link is None or self._reports is None or settings.certificate_source == "authority":
            return None
        from sslterm.certs.roots import Roots

        roots = Roots(self._link, self._health, self._report)
        self._reports.when_heard(roots.refresh)
        return roots

    def _open_admin(self, tasks: TaskGroup) -> None:
        address = self._settings.admin_addr
        if address is None:
            return
        from sslterm.admin import Admin

        try:
            self._admin = Admin(address, self._make_status().pages(), take_over=self._settings.hand_over)
        except OSError as error:
            advice = "; expected a folder that is there" if isinstance(error, FileNotFoundError) else ""
            raise Unable(f"admin-addr={address}: {error.strerror}{advice}", 1) from None
        tasks.start_soon(self._admin.serve)

    async def _start(self, tasks: TaskGroup) -> None:
        settings = self._settings
        try_addresses(settings)  # what cannot be bound is told now, not after the wait for a backend
        await self._first_certificate()
        if self._reports is not None:
            tasks.start_soon(self._reports.run)

    async def _call_others(self, tasks: TaskGroup) -> None:
        """Open the ports for that, and the door whenever the backend is there. Raises `Unable`."""
        await self._relay.start(self._in_force)
        listeners = open_outbound(self._settings)
        self._door.outlet = as_listed(listeners[0])
        await self._relay.call_others(listeners)
        listed = ", ".join(map(str, self._settings.outbound))
        self._report("INFO", f"Calling others over TLS: {listed}")
        tasks.start_soon(self._serve_meanwhile, tasks)

    async def _serve_meanwhile(self, tasks: TaskGroup) -> None:
        try:
            await self._serve(tasks)
        except Unable as error:
            self._refusal = error
            self._relay.stop()

    async def _serve(self, tasks: TaskGroup) -> None:
        """Wait for the backend, then open the door. Raises `Unable`."""
        address, backends = await self._find_backends()
        if self._phase is _Phase.DRAINING:
            return
        # Only then: until the backend is there, clients are refused as they would be without a sidecar; and `auto`
        # must not take a port that the target was about to open.
        if not self._settings.outbound:
            await self._relay.start(self._in_force)
        await self._door.start(tasks, address, backends)
        tasks.start_soon(self._audit.watch, [each.sockaddr[:2] for each in backends], self._has_news)
        tasks.start_soon(self._keep_door)

    @property
    def _in_force(self) -> Identity:
        identity = self._store.current
        assert identity is not None  # noqa: S101 - for the type checker: the first certificate is there
        return identity

    def _turned(self) -> None:
        """The door is open now, or shut."""
        if self._phase is not _Phase.DRAINING:
            self._phase = _Phase.SERVING if self._door.open else _Phase.WAITING
            if self._door.open:
                self._serving.set()
            self._audit.soon()
            self._has_news()

    async def _keep_door(self) -> None:
        try:
            await self._door.keep()
        except Unable as error:  # the port was taken while it was shut
            self._refusal = error
            self._relay.stop()

    async def _find_backends(self) -> tuple[Address, tuple[Backend, ...]]:
        """A backend may be waited for longer than a certificate lives, so that is kept meanwhile. Raises `Unable`."""
        refusal: Unable
        if self._settings.backend_addr is AUTO:
            self._phase = _Phase.WAITING
        async with anyio.create_task_group() as waiting:
            # An ACME server's checks are answered on the frontend.
            if not (self._settings.acme or self._settings.outbound):
                waiting.start_soon(self._keep_certificate)
            try:
                return await find_backends(self._settings, self._report)
            except Unable as error:
                refusal = error
            finally:
                waiting.cancel_scope.cancel()
        raise refusal

    async def _first_certificate(self) -> None:
        settings = self._settings
        if settings.acme:
            self._report("INFO", f"Certificates from the ACME server {settings.acme_directory}")
        elif settings.cert is not None:
            self._report("INFO", f"Load cert '{settings.cert}' and key '{settings.key}'")
        elif settings.cert_dir is not None:
            self._report("INFO", f"Load pairs from '{settings.cert_dir}'")
        elif settings.authority is not None:
            self._report("INFO", f"Ask the authority at '{settings.authority}' for a certificate")
        else:
            self._report("INFO", "No certificate given: making a self-signed one")
        try:
            identity = self._store.put(await self._source.obtain())
        except Rejected as error:
            setting = self._at_fault(str(error))
            raise Unable(f"{setting or 'certificate'}: {error}", 2 if setting else 1) from None
        for line in self._store.refused:
            self._report("ERROR", f"Not taken up: {line}")
        self._is_well()
        self._tell("Certificate:", identity)

    def _at_fault(self, line: str) -> str:
        """The setting whose file `line` is about; empty if none is."""
        settings = self._settings
        if settings.client_ca is not None and line.startswith(f"{settings.client_ca}:"):
            return "client-ca"
        if settings.acme:
            return "acme"
        return "cert" if settings.cert else "cert-dir" if settings.cert_dir else ""

    def _is_well(self) -> None:
        if not self._settings.acme:  # that has a certificate even while it gets none, and knows better
            self._health.renewed()

    def _tell(self, what: str, identity: Identity) -> None:
        fault = self._store.fault(identity)
        if fault:
            self._report("WARNING", f"{what} {identity}: {fault}, clients will not accept it")
        else:
            self._report("INFO", f"{what} {identity}")

    async def _obey(self, signals: AsyncIterator[signal.Signals], life: CancelScope) -> None:
        async for number in signals:
            if number is signal.SIGHUP:
                if self._phase is not _Phase.STARTING:
                    self._reload.set()
            elif number is signal.SIGUSR1:
                self._tell_clients()
            elif number is signal.SIGUSR2:
                self._expect_another()
            elif not self._relaying:
                self._phase = _Phase.STARTING
                life.cancel()
            elif self._phase is not _Phase.DRAINING:
                self._drain(number.name)
            else:
                self._report("WARNING", f"{number.name} again: stopping at once")
                self._relay.stop()

    def _drain(self, why: str) -> None:
        self._phase = _Phase.DRAINING
        limit = self._settings.drain_timeout
        self._report("INFO", f"{why}: finishing what is under way, for up to {limit:g} s")
        self._door.leave()
        self._relay.drain(limit)

    def _expect_another(self) -> None:
        """Leave as soon as another one serves; until then, and if none ever does, nothing changes."""
        if not self._settings.hand_over:
            self._report("DEBUG", "SIGUSR2: nobody can share this port (hand-over=off)")
        elif not self._relief.is_set():
            self._report("INFO", "SIGUSR2: leaving as soon as another sslterm has this port")
            self._relief.set()

    async def _leave_to_another(self) -> None:
        await self._relief.wait()
        await self._door.succeeded()
        if self._phase is not _Phase.DRAINING:
            self._drain("Another sslterm has this port")

    def _tell_clients(self) -> None:
        """The target is about to stop: what is said on HTTP connections in the meantime is the last on each."""
        limit = self._settings.drain_timeout
        if self._settings.mode is not Mode.HTTP:
            self._report("DEBUG", "SIGUSR1: nothing to tell in tcp mode")
        elif self._relaying and self._phase is not _Phase.DRAINING:
            self._relay.lame_duck(limit)
            self._report("INFO", f"SIGUSR1: for {limit:g} s, responses close their connections")

    async def _keep_certificate(self) -> None:
        while True:
            await first_of(self._source.changed, self._reload.wait)
            self._reload = anyio.Event()
            if self._phase is _Phase.DRAINING:
                return
            await self._renew_certificate()
            self._has_news()

    def _has_news(self) -> None:
        if self._reports is not None:
            self._reports.soon()

    async def _renew_certificate(self) -> None:
        before = self._store.current
        try:
            identity = self._store.put(await self._source.obtain())
        except Rejected as error:
            self._health.failed(str(error))
            self._report("ERROR", f"Certificate not reloaded, the one before stays in force: {error}")
            return
        self._is_well()
        for line in self._store.refused:
            self._health.failed(line)
            self._report("ERROR", f"Not taken up: {line}")
        if identity is not before and self._relaying:
            await self._relay.renew(identity)
        self._tell("Certificate unchanged:" if identity is before else "Certificate reloaded:", identity)

    async def _rotate_tickets(self) -> None:
        while True:
            await anyio.sleep(tickets.ROTATION)
            if self._phase is not _Phase.DRAINING:
                try:
                    await self._relay.renew(self._store.rotate())
                except Rejected as error:
                    self._report("ERROR", f"Keys of session tickets not changed: {error}")

    def _farewell(self) -> int:
        if self._phase is _Phase.STARTING:
            return 0
        served = self._relay.tally
        if self._relay.cut:
            self._report("WARNING", f"Stopped; {self._relay.cut} connections were cut in the middle; {served}")
            return 1
        self._report("INFO", f"Stopped; {served}")
        return 0
