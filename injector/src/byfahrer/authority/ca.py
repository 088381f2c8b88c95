"""
The root of our own: made at the first start, kept in the state folder, rotated by hand.

Everything is in one file, so that it is whole or not there: the key, its root, the terms on which it was made, and the
roots before it for as long as they are believed. A rotation signs the new root with the old key, too (a cross
certificate), and forgets the old key. Until the overlap ends, leaves carry the cross certificate and sidecars believe
both roots, so it makes no difference who has heard of the rotation already.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from loguru import logger

from byfahrer.authority.certificates import authority, key_pem, new_key, pem, root_name, same_key
from byfahrer.authority.constraints import Constraints, named
from byfahrer.authority.errors import StateError
from byfahrer.authority.issuer import BACKDATED, Issuer
from byfahrer.authority.names import DEFAULT_TRUST_DOMAIN, is_trust_domain
from byfahrer.authority.state import MOST, StateFolder, version
from byfahrer.authority.times import utc

FILE: Final = "ca.json"
FORM: Final = 1
LIFE: Final = dt.timedelta(days=3650)
OVERLAP: Final = dt.timedelta(days=7)
"""Longer than most leaves live, and a week for people to hand out the new root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a root is for."""

    trust_domain: str = ""
    """Empty: as the state folder says, else the default, and then without constraints."""
    permit_dns: tuple[str, ...] = ()
    """DNS domains that leaves are limited to; none for no limit."""

    @property
    def constrained(self) -> bool:
        """Whether the root is limited to its trust domain: nobody can be surprised by a limit that they asked for."""
        return bool(self.trust_domain or self.permit_dns)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Previous:
    """A root that is still believed. Its key is gone."""

    root: x509.Certificate
    cross: x509.Certificate | None
    """The root after it, signed by this one; None where its constraints would not let the new leaves pass."""
    until: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What is in the file."""

    trust_domain: str
    constrained: bool
    permit_dns: tuple[str, ...]
    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    previous: tuple[_Previous, ...] = ()
    """The newest first."""

    def issuer(self, now: dt.datetime) -> Issuer:
        believed: list[_Previous] = []
        for each in self.previous:
            if now >= min(each.until, each.root.not_valid_after_utc):
                break  # who stands on an older one gets there by way of this one only
            believed.append(each)
        return Issuer(
            key=self.key,
            certificate=self.root,
            crossed=tuple(each.cross for each in believed if each.cross is not None),
            roots=(self.root, *(each.root for each in believed)),
            trust_domain=self.trust_domain,
            constraints=Constraints([self.root]),
        )


class OwnRoot:
    """
    The root in a state folder, as it is there now: another process may rotate it at any time.

    What cannot be read any more is told once, and what was read last is used on.
    """

    def __init__(
        self,
        folder: StateFolder,
        terms: Terms = Terms(),
        *,
        create: bool = True,
        now: Callable[[], dt.datetime] = utc,
    ) -> None:
        """StateError: the root is damaged, made on other terms, or not there and not to be made."""
        # A folder that was named by mistake is not to be made, either.
        if not create and folder.read(FILE) is None:
            raise StateError(f"{folder.path}: there is no root here; byfahrer run makes it, and --ca-cert names yours")
        self._folder = folder
        self._terms = terms
        self._now = now
        with folder.locked():
            found = self._read()
            if found is None:
                found = _make(terms, now())
                folder.write(FILE, _as_json(found))
                logger.info("Made the root of the certificate authority: trust domain {}", found.trust_domain)
            self._version = folder.version(FILE)
        _check_terms(found, terms, folder.path / FILE)
        self._state = found

    def issuer(self) -> Issuer:
        """What to sign with now."""
        there = self._folder.version(FILE)
        if there != self._version:
            self._version = there
            try:
                found = self._read()
                if found is None:
                    raise StateError(f"{self._folder.path / FILE}: it was removed")
                self._state = found
                logger.info("Certificate authority read anew: {} root(s) to believe", 1 + len(found.previous))
                # Whoever rotated it meant it; the next start is refused all the same.
                _check_terms(found, self._terms, self._folder.path / FILE)
            except StateError as error:
                logger.error("Certificate authority: {}", error)
        return self._state.issuer(self._now())

    def rotate(self, overlap: dt.timedelta = OVERLAP, terms: Terms | None = None) -> Issuer:
        """
        A new root, for leaves from now on; the present one stays believed until the overlap ends.

        Without `terms` the new one is for the same. Nothing of the old ones is believed after an overlap of zero.
        """
        with self._folder.locked():
            old = self._read()
            if old is None:
                raise StateError(f"{self._folder.path / FILE}: it was removed")
            new = _rotated(old, overlap, terms, self._now())
            self._folder.write(FILE, _as_json(new))
            self._version = self._folder.version(FILE)
        self._state = new
        return new.issuer(self._now())

    def _read(self) -> _State | None:
        content = self._folder.read(FILE)
        return None if content is None else _parsed(content, self._folder.path / FILE)


class SharedRoot:
    """
    A root in one file that others keep, and replace as a whole: a Swarm secret. Read anew when it changes.

    It is in the form of the state folder's file, so that what a rotation leaves to be believed comes with it.
    """

    def __init__(self, path: Path, terms: Terms = Terms(), *, now: Callable[[], dt.datetime] = utc) -> None:
        """StateError: it cannot be read, or is for other terms."""
        self._path = path
        self._now = now
        self._version = version(path)
        self._state = _parsed(_whole(path), path)
        _check_terms(self._state, terms, path)

    def issuer(self) -> Issuer:
        """What to sign with now."""
        there = version(self._path)
        if there != self._version:
            self._version = there
            try:
                self._state = _parsed(_whole(self._path), self._path)
                logger.info("Certificate authority read anew from {}", self._path)
            except StateError as error:
                logger.error("Certificate authority: {}; the one before stays in use", error)
        return self._state.issuer(self._now())

    def rotated(self, overlap: dt.timedelta = OVERLAP) -> bytes:
        """What the file is to be after a rotation, for the same terms."""
        return _as_json(_rotated(self._state, overlap, None, self._now()))


def read_shared(content: bytes) -> Issuer:
    """What signs with a file of this content. StateError."""
    return _parsed(content, Path("the new root")).issuer(utc())


def new_root(terms: Terms, now: dt.datetime) -> bytes:
    """The content of a file for `SharedRoot`, with a root that did not exist before."""
    return _as_json(_make(terms, now))


def _whole(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}") from None
    if len(content) > MOST:
        raise StateError(f"{path}: expected at most {MOST} bytes")
    return content


def _make(terms: Terms, now: dt.datetime) -> _State:
    """A root for these terms."""
    trust_domain = terms.trust_domain or DEFAULT_TRUST_DOMAIN
    key = new_key()
    name = root_name(key, trust_domain)
    root = authority(
        subject=name,
        public_key=key.public_key(),
        issuer=name,
        signer=key,
        not_before=now - BACKDATED,
        not_after=now + LIFE,
        constraints=named(trust_domain, terms.permit_dns) if terms.constrained else None,
    )
    return _State(
        trust_domain=trust_domain,
        constrained=terms.constrained,
        permit_dns=terms.permit_dns,
        key=key,
        root=root,
    )


def _rotated(old: _State, overlap: dt.timedelta, terms: Terms | None, now: dt.datetime) -> _State:
    kept = Terms(trust_domain=old.trust_domain if old.constrained else "", permit_dns=old.permit_dns)
    new = _make(kept if terms is None else terms, now)
    until = min(now + overlap, old.root.not_valid_after_utc)
    if until <= now:
        return new
    cross = None
    if not old.constrained or (old.trust_domain, old.permit_dns) == (new.trust_domain, new.permit_dns):
        cross = authority(
            subject=new.root.subject,
            public_key=new.key.public_key(),
            issuer=old.root.subject,
            signer=old.key,
            not_before=now - BACKDATED,
            not_after=until,
            constraints=named(new.trust_domain, new.permit_dns) if new.constrained else None,
        )
    # Who knows an older root only gets to the new one by way of the one between: it is believed no longer than that.
    older = tuple(replace(each, until=min(each.until, until)) for each in old.previous if each.until > now)
    return replace(new, previous=(_Previous(root=old.root, cross=cross, until=until), *older))


def _check_terms(state: _State, terms: Terms, path: Path) -> None:
    """Whether a root that is there is what the operator wants now. It is never changed by the way."""
    if not terms.constrained:
        return
    asked = f"--trust-domain {terms.trust_domain or DEFAULT_TRUST_DOMAIN}"
    if (terms.trust_domain or DEFAULT_TRUST_DOMAIN) != state.trust_domain:
        wrong = f"its root is for the trust domain {state.trust_domain}, not {terms.trust_domain}"
    elif not state.constrained:
        wrong = f"its root is not limited to the trust domain {state.trust_domain}, as {asked} wants"
    elif terms.permit_dns and terms.permit_dns != state.permit_dns:
        permits = ", ".join(state.permit_dns) or "all"
        wrong = f"its root permits the DNS domains {permits}, not {', '.join(terms.permit_dns)}"
    else:
        return
    asked += "".join(f" --permit-dns {domain}" for domain in terms.permit_dns)
    raise StateError(f"{path}: {wrong}; keep to that, or make a new one: byfahrer ca rotate {asked}")


def _as_json(state: _State) -> bytes:
    told: dict[str, Any] = {
        "form": FORM,
        "trust_domain": state.trust_domain,
        "constrained": state.constrained,
        "permit_dns": state.permit_dns,
        "key": key_pem(state.key),
        "root": pem(state.root),
        "previous": [
            {
                "root": pem(each.root),
                "cross": pem(each.cross) if each.cross is not None else None,
                "until": each.until.isoformat(timespec="seconds"),
            }
            for each in state.previous
        ],
    }
    return json.dumps(told, indent=2).encode()


def _parsed(content: bytes, path: Path) -> _State:
    """What is in the file, all of it checked. StateError."""
    try:
        told = json.loads(content)
        if told["form"] != FORM:
            raise StateError(f"{path}: a form of another byfahrer ({told['form']!r}); expected {FORM}")
        key = load_pem_private_key(told["key"].encode(), password=None)
        root = x509.load_pem_x509_certificate(told["root"].encode())
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not is_trust_domain(told["trust_domain"]):
            raise ValueError
        previous = tuple(_previous(each) for each in told["previous"])
        permit_dns = tuple(str(each) for each in told["permit_dns"])
        constrained = told["constrained"] is True
        fits = same_key(key.public_key(), root.public_key())
    except (ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        advice = "put back a copy, or remove it, and then everybody must trust a new root"
        raise StateError(f"{path}: it is damaged; {advice}") from None
    if not fits:
        raise StateError(f"{path}: its key and root do not belong together; put back a copy")
    return _State(
        trust_domain=told["trust_domain"],
        constrained=constrained,
        permit_dns=permit_dns,
        key=key,
        root=root,
        previous=previous,
    )


def _previous(told: dict[str, Any]) -> _Previous:
    until = dt.datetime.fromisoformat(told["until"])
    if until.tzinfo is None:
        raise ValueError
    cross = told["cross"]
    return _Previous(
        root=x509.load_pem_x509_certificate(told["root"].encode()),
        cross=x509.load_pem_x509_certificate(cross.encode()) if cross is not None else None,
        until=until,
    )
