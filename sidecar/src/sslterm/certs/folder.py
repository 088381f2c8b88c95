"""
Several certificates from one folder, of which the client's SNI chooses.

A pair is NAME.crt with NAME.key, or a folder NAME with fullchain.pem and privkey.pem in it (certbot's `live`), or with
tls.crt and tls.key (a Kubernetes secret). The default is the pair called `default`, else the first by name. As with two
files, watching is asking once a second. Each pair stands for itself: one that cannot be read stays as it was last read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.files import Stamp, content, stamp

if TYPE_CHECKING:
    from pathlib import Path

_INTERVAL: Final = 1.0
_MOST: Final = 256
"""Pairs: each has a context of some 30 KB in every process, and is looked at every second."""
_MOST_ENTRIES: Final = 4096
"""Of a folder that is looked through: more than that is not one of certificates."""
_DEFAULT: Final = "default"
_INSIDE: Final = (("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key"))


class _Pair(NamedTuple):
    """Where one is. In the order in which they are served."""

    is_other: bool
    """False for the default."""
    name: str
    cert: Path
    key: Path


_Stamps = dict[_Pair, tuple[Stamp, Stamp]]


class Folder:
    """The source behind `--cert-dir`."""

    def __init__(self, path: Path, interval: float = _INTERVAL) -> None:
        self._path = path
        self._interval = interval
        self._read_at: _Stamps = {}
        self._bundles: dict[_Pair, Bundle] = {}

    async def obtain(self) -> Credentials:
        """All pairs as they are now. Raises `Rejected` if there is none."""
        found = self._look()
        if not found:
            raise Rejected(
                f"{self._path}: no certificate in it; needed is NAME.crt with NAME.key, or a folder that holds "
                "fullchain.pem with privkey.pem, or tls.crt with tls.key"
            )
        faults: list[str] = []
        bundles: dict[_Pair, Bundle] = {}
        for pair in found:
            try:
                bundles[pair] = Bundle(content(pair.cert), content(pair.key), str(pair.cert), str(pair.key))
            except Rejected as error:
                faults.append(str(error))
                if pair in self._bundles:
                    bundles[pair] = self._bundles[pair]
        self._bundles, self._read_at = bundles, found
        if not bundles:
            raise Rejected("; ".join(faults))
        return Credentials(tuple(bundles.values()), faults=tuple(faults))

    async def changed(self) -> None:
        """Return when a pair differs from what was last read and stopped changing, or came, or went."""
        previous = self._read_at
        while True:
            await anyio.sleep(self._interval)
            try:
                found = self._look()
            except Rejected:  # the folder is gone, or too full: `obtain` says so
                found = {}
            for pair in found.keys() | self._read_at.keys():
                seen = found.get(pair)
                if seen == previous.get(pair) and seen != self._read_at.get(pair):
                    return
            previous = found

    def _look(self) -> _Stamps:
        """The pairs that are there, in their order, and what their files are now."""
        pairs = sorted(self._pairs())
        if len(pairs) > _MOST:
            raise Rejected(f"{self._path}: {len(pairs)} certificates; at most {_MOST} are served")
        return {pair: (stamp(pair.cert), stamp(pair.key)) for pair in pairs}

    def _pairs(self) -> list[_Pair]:
        found = []
        for number, entry in enumerate(self._entries()):
            if number == _MOST_ENTRIES:
                raise Rejected(
                    f"{self._path}: more than {_MOST_ENTRIES} files; a folder of certificates only is needed"
                )
            name, path = entry.name, self._path / entry.name
            if name.startswith("."):  # Kubernetes keeps its versions in such folders
                continue
            stem = name.removesuffix(".crt")
            if stem != name:
                key = self._path / f"{stem}.key"
                if stem != "ca" or stamp(key):  # a Kubernetes secret may have a ca.crt beside its pair
                    found.append(_Pair(stem != _DEFAULT, stem, path, key))
                continue
            for cert, key_name in _INSIDE:
                if stamp(path / cert):
                    found.append(_Pair(name != _DEFAULT, name, path / cert, path / key_name))
                    break
        return found

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._path) as entries:
                return [entry for entry, _ in zip(entries, range(_MOST_ENTRIES + 1), strict=False)]
        except NotADirectoryError:
            raise Rejected(f"{self._path}: not a folder") from None
        except PermissionError:
            raise Rejected(f"{self._path}: not readable by uid {os.geteuid()}") from None
        except OSError as error:
            reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror
            raise Rejected(f"{self._path}: {reason}") from None
