"""
What a sidecar says of itself to those who ask: its status, its metrics, whether it is ready; and to the authority.

Everything is looked up when it is asked for; nothing here counts or keeps anything. No key, token or client's name can
come up: certificates are told by names, dates and fingerprints.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

from sslterm.admin import Page
from sslterm.relay.tally import ACCEPTED, OPEN, OUTBOUND, OUTBOUND_FAILED, REFUSED, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from sslterm.certs.health import Health
    from sslterm.certs.store import Store
    from sslterm.relay.tally import Tally
    from sslterm.settings import Settings

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"
_MOST_NAMES: Final = 8 * 1024
"""Characters of a certificate's names that the authority is told: it reads 16 KiB of a report."""
_LONGEST_REASON: Final = 300


class Counts(Protocol):
    """Whoever relays."""

    @property
    def tally(self) -> Tally:
        """What it counted."""


class Finds(Protocol):
    """Whoever looks for ways round TLS."""

    @property
    def found(self) -> tuple[str, ...]:
        """Where they are."""

    @property
    def fault(self) -> str:
        """The same, in words; empty for none."""


class Status:
    """`phase` is "starting", "waiting" (for the backend), "serving" or "draining"; `served` counts what is served."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        health: Health,
        served: Counts,
        phase: Callable[[], str],
        audit: Finds,
    ) -> None:
        self._settings = settings
        self._source = settings.certificate_source
        self._store = store
        self._health = health
        self._served = served
        self._phase = phase
        self._audit = audit

    def pages(self) -> Mapping[str, Callable[[], Page]]:
        """By the path where each is served."""
        return {"/status": self._status, "/metrics": self._metrics, "/ready": self._ready}

    def for_authority(self) -> dict[str, Any]:
        """What the authority is told."""
        tally = self._served.tally
        certificate = self._certificate()
        fault = self._fault()
        return {
            "phase": self._phase(),
            "ready": not fault,
            "fault": fault[:_LONGEST_REASON],
            "bypass": list(self._audit.found),
            "source": self._source,
            **{name: certificate[name] for name in ("serial", "sha256", "not_after")},
            "names": _beginning(certificate["names"]),
            "failing": self._health.failing[:_LONGEST_REASON],
            "denied": tally.denied(),
            "connections": tally.total(OPEN),
            "requests": tally.total(REQUESTS),
        }

    def _certificate(self) -> dict[str, Any]:
        current = self._store.current
        if current is None:
            return {"serial": "", "sha256": "", "not_before": "", "not_after": "", "names": []}
        facts = current.facts
        return {
            "serial": facts.serial,
            "sha256": current.bundle.fingerprint,
            "not_before": _time(facts.not_before),
            "not_after": _time(facts.not_after),
            "names": list(facts.names),
        }

    def _fault(self) -> str:
        """Why clients do not get what they came for, if so."""
        phase = self._phase()
        if phase != "serving":
            nobody = f": nothing listens on backend-addr={self._settings.backend_addr}"
            return f"{phase}{nobody if phase == 'waiting' else ''}"
        current = self._store.current
        fault = self._store.fault(current) if current is not None else "there is no certificate"
        if fault:
            return f"certificate: {fault}"
        return self._audit.fault if self._settings.strict else ""

    def _status(self) -> Page:
        settings, tally, fault = self._settings, self._served.tally, self._fault()
        told = {
            "phase": self._phase(),
            "ready": not fault,
            "fault": fault,
            "mode": str(settings.mode),
            "frontend": str(settings.frontend_addr),
            "backend": str(settings.backend_addr),
            "workers": settings.workers,
            "strict": settings.strict,
            "bypass": list(self._audit.found),
            "certificate": {
                "source": self._source,
                **self._certificate(),
                "failing": self._health.failing,
                "renewal_failures": self._health.failures,
            },
            "connections": {"open": tally.total(OPEN), "accepted": tally.total(ACCEPTED)},
            "requests": tally.total(REQUESTS),
            "handshakes_failed": tally.total(REFUSED),
            "denied": tally.denied(),
            "outbound": {
                "to": [str(each) for each in settings.outbound],
                "connections": tally.total(OUTBOUND),
                "failed": tally.total(OUTBOUND_FAILED),
            },
        }
        return Page(200, "application/json", json.dumps(told, indent=2) + "\n")

    def _ready(self) -> Page:
        fault = self._fault()
        return Page(503 if fault else 200, "text/plain; charset=utf-8", f"{fault or 'ready'}\n")

    def _metrics(self) -> Page:
        tally, health, current = self._served.tally, self._health, self._store.current
        lines: list[str] = []

        def tell(name: str, kind: str, about: str, *samples: tuple[str, float]) -> None:
            lines.extend((f"# HELP sslterm_{name} {about}", f"# TYPE sslterm_{name} {kind}"))
            lines.extend(f"sslterm_{name}{labels} {value}" for labels, value in samples)

        if current is not None:
            end = round(min(each.not_after for each in current.every).timestamp())
            tell(
                "certificate_not_after_timestamp_seconds",
                "gauge",
                "When the first certificate in force expires.",
                ("", end),
            )
        failing = int(bool(health.failing))
        tell("certificate_renewal_failing", "gauge", "1 while the certificate cannot be renewed.", ("", failing))
        tell("certificate_renewal_failures_total", "counter", "Renewals that failed.", ("", health.failures))
        bypass = int(bool(self._audit.found))
        tell("bypass", "gauge", "1 while the backend listens on more than loopback.", ("", bypass))
        about = "Connections at this moment, calls to others among them."
        tell("connections_open", "gauge", about, ("", tally.total(OPEN)))
        tell("connections_accepted_total", "counter", "Client connections accepted.", ("", tally.total(ACCEPTED)))
        about = "Finished requests; in tcp mode, finished connections."
        tell("requests_total", "counter", about, ("", tally.total(REQUESTS)))
        tell("handshakes_failed_total", "counter", "TLS handshakes that failed.", ("", tally.total(REFUSED)))
        denied = [(f'{{reason="{reason}"}}', count) for reason, count in tally.denied().items()]
        tell("denied_total", "counter", "Clients that were turned away, by reason.", *denied)
        if self._settings.outbound:
            tell("outbound_total", "counter", "Calls to others.", ("", tally.total(OUTBOUND)))
            about = "Calls to others that failed or were cut."
            tell("outbound_failed_total", "counter", about, ("", tally.total(OUTBOUND_FAILED)))
        return Page(200, _PROMETHEUS, "\n".join(lines) + "\n")


def _beginning(names: list[str]) -> list[str]:
    """As many of them as there is room for, each whole."""
    room = _MOST_NAMES - sum(map(len, names))
    while room < 0:
        *names, last = names
        room += len(last)
    return names


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
