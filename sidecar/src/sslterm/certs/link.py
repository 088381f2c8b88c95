"""
What can be asked of byfahrer's authority: a certificate, whom to believe, and to be told how things are here.

Owns the meaning of the messages; `exchange.py` has their form. The token is read from its file for each of them, since
whoever put it there may replace it, and is in no message, error or repr.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sslterm.certs.bundle import Rejected
from sslterm.certs.exchange import Answer, exchange

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE: Final = 10.0
"""Seconds for an answer; a signature takes a millisecond, and what the engine is asked for some more."""

_LARGEST_TOKEN: Final = 4096
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/=-]+")
"""RFC 6750, section 2.1. Nothing that could end a header line."""
_YEARS: Final = 10 * 366 * 86400.0
_LONGEST_PAUSE: Final = 300.0
_MOST_WORDS: Final = 200
"""Characters of an error that are told."""


class Refused(Rejected):
    """The authority did not do what it was asked for."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = min(retry_after, _LONGEST_PAUSE)
        """Seconds for which it asks to be left alone."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, as it came."""

    chain: bytes
    authorities: bytes
    lifetime: float
    renew_in: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the authority says to a status."""

    renew: bool
    again_in: float


class Link:
    """The way to the authority at the socket `path`, as whom the file `token` says. Everything raises `Refused`."""

    def __init__(self, path: Path, token: Path) -> None:
        self._path = path
        self._token = token

    async def certificate(self, request: str, patience: float = PATIENCE) -> Issued:
        """A certificate for the key that signed `request`, which is PEM."""
        body = request.encode()
        answer = await self._ask("POST", "/v1/certificate", body, "application/x-pem-file", patience)
        chain, authorities = self._pem(answer, "chain"), self._pem(answer, "authorities")
        lifetime = self._number(answer, "lifetime", _YEARS)
        return Issued(chain, authorities, lifetime, self._number(answer, "renew_in", lifetime))

    async def authorities(self) -> bytes:
        """PEM: the roots to believe."""
        return self._pem(await self._ask("GET", "/v1/authorities"), "authorities")

    async def status(self, report: Mapping[str, Any]) -> Verdict:
        """Tell how things are here."""
        answer = await self._ask("POST", "/v1/status", json.dumps(report).encode(), "application/json")
        renew = answer.get("renew")
        if not isinstance(renew, bool):
            raise self._odd("renew is neither true nor false")
        return Verdict(renew, self._number(answer, "again_in", _YEARS))

    async def _ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        kind: str = "",
        patience: float = PATIENCE,
    ) -> dict[str, Any]:
        token = _read_token(self._token)
        fields = [b"Host: authority", b"Connection: close", b"Authorization: Bearer " + token]
        if kind:
            fields += [b"Content-Type: " + kind.encode(), b"Content-Length: %d" % len(body)]
        head = b"\r\n".join((f"{method} {target} HTTP/1.1".encode(), *fields, b"", b""))
        try:
            answer = await exchange(self._path, head + body, patience)
        except Rejected as error:
            raise self._odd(str(error)) from None
        if answer.status != 200:
            raise self._refusal(answer, token)
        return self._object(answer.body)

    def _odd(self, what: str) -> Refused:
        return Refused(f"authority {self._path}: {what}")

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self._odd("the answer is no JSON object")
        return found

    def _refusal(self, answer: Answer, token: bytes) -> Refused:
        try:
            reason = self._object(answer.body).get("error")
        except Refused:
            reason = None
        words = " ".join((reason if isinstance(reason, str) else "").replace(token.decode(), "…").split())[:_MOST_WORDS]
        return Refused(
            f"authority {self._path}: refused with {answer.status}: {words or 'no reason'}", answer.retry_after
        )

    def _pem(self, answer: dict[str, Any], name: str) -> bytes:
        found = answer.get(name)
        if not isinstance(found, str) or not found.isascii() or "-----BEGIN CERTIFICATE-----" not in found:
            raise self._odd(f"{name} holds no certificate")
        return found.encode()

    def _number(self, answer: dict[str, Any], name: str, most: float) -> float:
        found = answer.get(name)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= most:
            raise self._odd(f"{name} is not a number of seconds between 0 and {most:.0f}")
        return float(found)


def _read_token(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would otherwise block here for good
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Refused(f"authority-token {path}: not a file")
            token = file.read(_LARGEST_TOKEN + 1).strip()
    except PermissionError:
        raise Refused(f"authority-token {path}: not readable by uid {os.geteuid()}") from None
    except OSError as error:
        raise Refused(f"authority-token {path}: {error.strerror}") from None
    if len(token) > _LARGEST_TOKEN or not _TOKEN.fullmatch(token):
        raise Refused(f"authority-token {path}: holds no token, which is one line of letters, digits and . _ ~ + / = -")
    return token
