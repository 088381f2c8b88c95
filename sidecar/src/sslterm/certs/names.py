"""
The contexts of one process, one for each pair, of which the client's SNI chooses (RFC 6066, section 3).

A handshake begins with the front, the context of the default pair, and changes over to another where the client names
a host that another pair holds: its exact name, else the wildcard for its last label but one, else it stays. A name that
nobody holds is no error, since many clients send one that is only theirs.

The front is made anew at every change, the others only where their pair or the authorities changed. That is because
OpenSSL makes and reads *all* tickets with the keys of the context that a handshake began with: new keys for one pair
are new keys for all. So after a change nobody resumes what was agreed before it, be it with a certificate that was
replaced or by the word of an authority that was removed; it costs each client one full handshake.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

from sslterm.certs.context import ask_clients, build

if TYPE_CHECKING:
    from sslterm.certs.bundle import Bundle, Credentials
    from sslterm.settings import ClientAuth, Mode, TlsProfile

_Choice = Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], None]


class Contexts:
    """Makes contexts for `Credentials`, and keeps those that the next can use as they are."""

    def __init__(self, mode: Mode, profile: TlsProfile, client_auth: ClientAuth) -> None:
        self._mode = mode
        self._profile = profile
        self._client_auth = client_auth
        self._authorities = b""
        self._kept: dict[Bundle, ssl.SSLContext] = {}

    def front(self, credentials: Credentials, hosts: Sequence[Sequence[str]]) -> ssl.SSLContext:
        """
        The context to begin with, ready for `credentials`. Raises `Rejected`, and then keeps what it had.

        `hosts`: for each pair the DNS names in its certificate, in lower case. Of two pairs that hold the same name
        the first has it.
        """
        kept = self._kept if credentials.authorities == self._authorities else {}
        default, *others = credentials.pairs
        front = self._make(default, credentials)
        made = {bundle: kept.get(bundle) or self._make(bundle, credentials) for bundle in others}
        if others:
            own, elsewhere = set(), dict[str, ssl.SSLContext]()
            for bundle, names in zip(credentials.pairs, hosts, strict=True):
                for name in names:
                    if name not in own and name not in elsewhere:
                        if bundle == default:
                            own.add(name)
                        else:
                            elsewhere[name] = made[bundle]
            front.sni_callback = _choice(own, elsewhere)
            _say_nothing_of_unreadable_names()
        self._kept, self._authorities = made, credentials.authorities
        return front

    def _make(self, bundle: Bundle, credentials: Credentials) -> ssl.SSLContext:
        context = build(bundle, self._mode, self._profile)
        ask_clients(context, self._client_auth, credentials.authorities, credentials.authorities_source)
        return context


def _choice(own: Container[str], elsewhere: Mapping[str, ssl.SSLContext]) -> _Choice:
    """What chooses. It holds no reference to the front, which holds one to it."""

    def choose(session: ssl.SSLSocket | ssl.SSLObject, asked: str | None, _front: ssl.SSLContext) -> None:
        if asked is None:
            return
        name = asked.lower().removesuffix(".")
        for each in (name, f"*.{name.partition('.')[2]}"):
            if each in own:
                return
            if each in elsewhere:
                session.context = elsewhere[each]
                return

    return choose


def _say_nothing_of_unreadable_names() -> None:
    """
    Keep a name in SNI that is not ASCII from filling stderr.

    RFC 6066 forbids it, and Python ends such a handshake by itself, but each time with a traceback: any client could
    have it written as often as it likes.
    """
    if getattr(sys.unraisablehook, "passes_over_names", False):
        return
    before = sys.unraisablehook

    def tell(unraisable: sys.UnraisableHookArgs) -> None:
        if not (isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes)):
            before(unraisable)

    tell.passes_over_names = True  # type: ignore[attr-defined]
    sys.unraisablehook = tell
