"""How the renewal of the certificate goes: what status, metrics and the authority are told. Control plane only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Health:
    failing: str = ""
    """Why the certificate in force is not replaced although it should be; empty while all is well."""
    failures: int = 0
    """Renewals that failed so far."""

    def failed(self, reason: str) -> None:
        self.failing = reason
        self.failures += 1

    def renewed(self) -> None:
        self.failing = ""
