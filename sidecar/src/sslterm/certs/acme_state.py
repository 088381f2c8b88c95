"""
What outlives the sidecar: the ACME account, and the certificate with all that its renewal needs.

A folder for each server, a file of JSON for its account and one for each set of names, readable by this user only. A
file is written beside and renamed into place, so that there is always a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sslterm.certs import context
from sslterm.certs.bundle import Bundle, Rejected
from sslterm.settings import Mode, TlsProfile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LARGEST: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Account:
    uri: str
    key: str = field(repr=False)
    """PEM."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate as the server gave it, and when to look after it; times are seconds since 1970."""

    chain: str
    key: str = field(repr=False)
    not_before: float
    not_after: float
    renew_at: float
    ask_at: float | None
    """When to ask the server again when to renew; None if it does not tell."""

    def bundle(self, source: str) -> Bundle:
        # Between the certificates a server may write what it likes.
        return Bundle(self.chain.encode(errors="replace"), self.key.encode(errors="replace"), source, source)

    def prove(self, source: str) -> None:
        """Raise `Rejected` if it cannot be served: what is kept is served after every restart."""
        bundle = self.bundle(source)
        bundle.check()
        context.prove(context.build(bundle, Mode.TCP, TlsProfile.INTERMEDIATE), bundle)


class Folder:
    """The files of one server and one set of names, in `root`."""

    def __init__(self, root: Path, directory: str, names: Sequence[str]) -> None:
        host = urlsplit(directory).hostname or "server"
        self._root = root
        self._folder = root / f"{host}-{_digest(directory)}"
        self._account = self._folder / "account.json"
        names = sorted(names)  # in any order they are the same set, and the same certificate does for it
        self.certificate = self._folder / f"{names[0][:64]}-{_digest(','.join(names))}.json"
        """Where the certificate is."""
        self._failures = self.certificate.with_suffix(".failures")

    def prepare(self) -> None:
        """Make the folder, and be sure that something can be kept in it. Raises `Rejected`."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._folder / ".writable", b"")
            (self._folder / ".writable").unlink()
        except OSError as error:
            reason = f"not writable by uid {os.geteuid()} ({error.strerror})"
            raise Rejected(f"acme-dir={self._root}: {reason}; a volume there keeps account and certificates") from None

    def load_account(self) -> Account | None:
        """The account, if there is one. Raises `Rejected` for a file that is none."""
        found = _read(self._account, Account)
        return None if found is None else Account(**found)

    def load(self) -> Issued | None:
        """The certificate, if there is one. Raises `Rejected` for a file that is none."""
        found = _read(self.certificate, Issued)
        if found is None:
            return None
        issued = Issued(**found)
        issued.prove(str(self.certificate))
        return issued

    def load_failures(self) -> list[float]:
        """When orders failed of late."""
        try:
            found = json.loads(self._failures.read_bytes())
            return [float(each) for each in found]
        except (OSError, ValueError, TypeError):
            return []

    def save(self, what: Account | Issued) -> None:
        """Keep it. Raises OSError."""
        path = self._account if isinstance(what, Account) else self.certificate
        _write(path, json.dumps(asdict(what), indent=1).encode())

    def save_failures(self, times: Sequence[float]) -> None:
        """Keep when orders failed: a restart must not make a server's limits forgotten."""
        with suppress(OSError):
            if times:
                _write(self._failures, json.dumps(list(times)).encode())
            else:
                self._failures.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(path: Path, kind: type[Account | Issued]) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Rejected(f"{path}: {error.strerror}") from None
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    kinds = {each.name: str if each.type == "str" else (int, float, type(None)) for each in fields(kind)}
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise Rejected(f"{path}: damaged")
    if not all(isinstance(found[name], expected) for name, expected in kinds.items()):
        raise Rejected(f"{path}: damaged")
    return found


def _write(path: Path, content: bytes) -> None:
    """`content` in one step, in a file for this user only."""
    beside = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
