"""
Certificates from an ACME server such as Let's Encrypt (RFC 8555).

The order itself is the work of a child process, for as long as it takes. Here is what goes on for the sidecar's whole
life: to keep what was issued, to know when to renew it, to have the server's checks answered, and to be patient.

Until there is a first certificate, a self-signed one serves: the server's check by TLS needs somebody who listens.
Later the certificate before stays in force, whatever fails.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from sslterm import __version__
from sslterm.certs.acme_process import Process
from sslterm.certs.acme_state import Account, Folder, Issued
from sslterm.certs.acme_times import BackOff, next_question, renewal, within
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.challenge import Proof
from sslterm.certs.files import content
from sslterm.certs.health import Health
from sslterm.certs.maker import Maker, MakerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from sslterm.certs.health import Health
    from sslterm.settings import Settings

_AGENT: Final = f"sslterm/{__version__}"
_LONGEST_SLEEP: Final = 30.0
"""Seconds: the clock may be set, or the machine suspended."""
_SETTLED: Final = 21600.0
"""Seconds that a new certificate is left alone for: a server in error must not have them ordered without end."""
_LATEST: Final = 0.1
"""What is left of a certificate's life when it is renewed at the latest."""
_DAYS: Final = 30.0
"""Of the self-signed certificate."""


@dataclass(frozen=True, slots=True)
class Checks:
    """How a server's checks of names are answered."""

    serving: Callable[[], Awaitable[object]]
    """Returns when there is somebody to check: before that, no order would come to a good end."""
    present: Callable[[Sequence[Proof]], Awaitable[None]]
    """Has the relay answer checks by TLS with these, or none any more; returns when it does."""
    answers: dict[str, str]
    """The answers to checks by HTTP, by token, for whoever serves them."""


class Acme:
    """The source behind `--acme`."""

    def __init__(
        self,
        settings: Settings,
        maker: Maker,
        health: Health,
        report: Callable[[str, str], None],
        checks: Checks,
    ) -> None:
        self._names = settings.acme
        self._directory = settings.acme_directory
        self._email = settings.acme_email
        self._ca: Path | None = settings.acme_ca
        self._challenge = str(settings.acme_challenge)
        self._folder = Folder(settings.acme_dir, self._directory, self._names)
        self._maker = maker
        self._health = health
        self._report = report
        self._checks = checks
        self._started = False
        self._account: Account | None = None
        self._issued: Issued | None = None
        self._stopgap: Bundle | None = None
        self._back_off = BackOff()
        self._process: Process | None = None
        self._ordering = False
        """What the process does is an order, not only a question."""
        self._announced = False
        """What `obtain` is called for is a certificate that `changed` told of; else somebody asks for a look now."""
        self._failing = ""
        """Why the last order failed; empty if it did not."""
        self._kind = ""

    async def obtain(self) -> Credentials:
        """The certificate that the server gave, or one to begin with. Raises `Rejected`."""
        if not self._started:
            self._start()
        elif not self._announced:
            self._back_off.next = self._back_off.soonest  # SIGHUP: whoever mended something need not wait
        self._announced = False
        if self._issued is not None:
            return Credentials((self._issued.bundle(str(self._folder.certificate)),))
        if self._stopgap is None:
            self._stopgap = await self._make_stopgap()
        return Credentials((self._stopgap,))

    async def changed(self) -> None:
        """Return when the server has given a certificate. May be cancelled, and goes on with the next call."""
        await self._checks.serving()
        self._health.failing = self._failing  # which a look at what is kept has no news of
        while True:
            if self._process is None:
                await self._wait()
                if not self._begin():
                    continue
            if await self._go_on():
                self._announced = True
                return

    def _start(self) -> None:
        self._folder.prepare()
        if self._ca is not None:
            content(self._ca)
        for load in (self._load_account, self._load_certificate):
            try:
                load()
            except Rejected as error:
                self._report("WARNING", f"acme: {error}; going on without it")
        self._back_off = BackOff(self._folder.load_failures())
        self._back_off.next = self._back_off.soonest
        self._started = True

    def _load_account(self) -> None:
        self._account = self._folder.load_account()

    def _load_certificate(self) -> None:
        self._issued = self._folder.load()

    async def _make_stopgap(self) -> Bundle:
        listed = ", ".join(self._names)
        self._report("INFO", f"acme: no certificate for {listed} yet: a self-signed one serves until there is")
        order = {"common_name": self._names[0][:64], "dns": self._names, "addresses": (), "days": _DAYS}
        try:
            made = await anyio.to_thread.run_sync(self._maker.make, order, abandon_on_cancel=True)
        except MakerError as error:
            raise Rejected(f"self-signed: {error}") from None
        return Bundle(made["chain"].encode(), made["key"].encode(), "self-signed", "self-signed")

    # What to do next, and when.

    def _order_at(self) -> float:
        due = self._issued.renew_at if self._issued else 0.0
        return max(due, self._back_off.next)

    async def _wait(self) -> None:
        """Until there is something to ask the server for."""
        while True:
            at = self._order_at()
            if self._issued is not None and self._issued.ask_at is not None:
                at = min(at, self._issued.ask_at)
            left = at - time.time()
            if left <= 0:
                return
            await anyio.sleep(min(left, _LONGEST_SLEEP))

    def _begin(self) -> bool:
        """Start a child process with what is due."""
        self._ordering = self._order_at() <= time.time()
        order = {
            "do": "order" if self._ordering else "window",
            "directory": self._directory,
            "ca": str(self._ca or ""),
            "agent": _AGENT,
            "email": self._email,
            "challenge": self._challenge,
            "names": self._names,
            "account": self._account.uri if self._account else "",
            "key": self._account.key if self._account else "",
            "chain": self._issued.chain if self._issued else "",
        }
        if self._ordering:
            self._report("INFO", f"acme: ordering a certificate for {', '.join(self._names)} from {self._directory}")
        try:
            self._process = Process(order)
        except OSError as error:
            self._fail(f"the child process cannot be started: {error.strerror}")
        return self._process is not None

    async def _go_on(self) -> bool:
        """Hear what the child process has to say, to its end; whether it brought a certificate."""
        process = self._process
        while process is not None:
            event = await process.event()
            kind = event.pop("event")
            if kind == "account":
                self._keep(Account(**event))
            elif kind == "challenge":
                self._checks.answers.update(event["answers"])
                await self._show([Proof(**each) for each in event["proofs"]])
                with suppress(OSError):  # it has ended: so says the next event
                    process.send({"do": "ready"})
            else:
                break
        self._process = None
        if process is not None:
            process.close()
        taken = False
        if kind == "issued":
            taken = self._take(**event)
        elif kind == "window":
            self._plan(event)
        else:
            self._fail(**event)
        self._checks.answers.clear()
        await self._show([])
        return taken

    async def _show(self, proofs: Sequence[Proof]) -> None:
        with anyio.CancelScope(shield=True):  # the child waits for it; and it takes some milliseconds
            await self._checks.present(proofs)

    # What came of it.

    def _take(self, chain: str, key: str, not_before: float, not_after: float, window: dict[str, Any] | None) -> bool:
        """Whether it is one that can be served."""
        renew_at = renewal(not_before, not_after, _chance())
        issued = Issued(chain, key, not_before, not_after, renew_at, None)
        try:
            issued.prove("the server's certificate")
        except Rejected as error:
            self._fail(str(error), reached=True)
            return False
        floor = time.time() + min(_SETTLED, (not_after - not_before) / 2)  # whatever the server suggests
        planned = _planned(issued, window or {})
        self._keep(replace(planned, renew_at=max(planned.renew_at, floor)))
        self._back_off.succeeded()
        self._folder.save_failures(())
        self._failing = ""
        return True

    def _plan(self, window: dict[str, Any]) -> None:
        if self._issued is not None:
            self._keep(_planned(self._issued, window))

    def _keep(self, what: Account | Issued) -> None:
        if isinstance(what, Account):
            self._account = what
        else:
            self._issued = what
        try:
            self._folder.save(what)
        except OSError as error:  # it serves all the same; after a restart it has to be asked for again
            self._report("ERROR", f"acme: cannot be kept in {self._folder.certificate.parent}: {error.strerror}")

    def _fail(self, why: str, kind: str = "", after: float = 0.0, *, reached: bool = False) -> None:
        now = time.time()
        if self._issued is not None and not self._ordering:
            self._keep(replace(self._issued, ask_at=next_question(now, max(after, 21600.0))))
            self._report("WARNING", f"acme: the server does not tell when to renew: {why}")
            return
        self._back_off.failed(now, after, reached=reached)
        self._folder.save_failures(self._back_off.failures)
        again = f"trying again in {_spoken(self._back_off.next - now)}"
        if self._failing and kind == self._kind:
            self._report("WARNING", f"acme: failed for the same reason, {self._back_off.count} times now; {again}")
        else:
            stays = "the certificate before" if self._issued else "the self-signed one"
            self._report("ERROR", f"acme: no certificate for {', '.join(self._names)}: {why}; {stays} stays; {again}")
        self._failing, self._kind = why, kind
        self._health.failed(why)


def _planned(issued: Issued, window: dict[str, Any]) -> Issued:
    """`issued`, to be renewed as the server suggests; if it does not, as it was."""
    if window.get("start") is None:
        return replace(issued, ask_at=None)
    now = time.time()
    start, end = window["start"], window["end"]
    at = issued.renew_at if start <= issued.renew_at <= end else within(start, end, _chance())
    at = min(at, issued.not_after - _LATEST * (issued.not_after - issued.not_before))  # whatever the server suggests
    return replace(issued, renew_at=at, ask_at=next_question(now, window["ask_in"]))


def _chance() -> float:
    return random.random()  # noqa: S311 - to spread, not to hide


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
