"""
The `acme` library, made patient: what every request to an ACME server has in common.

For the child process only, as `acme_child.py` is. The library repeats a request once whose nonce was refused; servers
may refuse more often (RFC 8555, section 6.5), so it is asked again here. And it drops what a server says of when to
come back, which is kept here.
"""

from __future__ import annotations

import datetime as dt
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, cast

import requests
from acme import challenges, client, errors, messages
from josepy.errors import Error as JoseError
from josepy.json_util import field
from josepy.jwa import ES256

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from josepy.jwk import JWK

_REQUEST_TIMEOUT: Final = 30
"""Seconds without a byte from the server."""
_NONCES: Final = 15
"""Times two, since the library does each twice: half of all nonces refused (Pebble) is then one failure in 10^9."""
_LARGEST: Final = 1024 * 1024
"""Bytes of an answer; a chain of ten certificates is 20 KB. The container's memory is the whole sidecar's."""
_CHUNK: Final = 65536
_LONGEST: Final = 4096
"""Characters of what a server says that are repeated."""


class Failed(Exception):  # noqa: N818 - an outcome, not a defect
    """No certificate this time: `str()` says why, in the server's words."""

    def __init__(self, why: str, *, kind: str = "", reached: bool = True) -> None:
        super().__init__(why)
        self.kind = kind or why
        """The same for what failed for the same reason; the server's words may hold tokens and addresses."""
        self.reached = reached
        """The server took the request and refused; else it could not even be asked."""


class Network(client.ClientNetwork):
    """Requests, signed by an account's key."""

    def __init__(self, key: JWK, agent: str, ca: str) -> None:
        super().__init__(key, alg=ES256, user_agent=agent, timeout=_REQUEST_TIMEOUT)
        self.verify_ssl = cast("bool", ca or True)  # `requests` takes a path as well
        self.session.hooks["response"].extend((_bound, self._note))
        del self.session.adapters["http://"]  # nor by a redirect
        self.after = 0.0
        """Seconds that the server, in its last refusal, asked to be left alone for."""
        self.replaces = ""
        """The certificate that the next order replaces (RFC 9773, section 5)."""

    def _note(self, response: requests.Response, *_: object, **__: object) -> None:
        if not response.ok:
            self.after = retry_after(response, 0.0)

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - as the library has it
        """Send a signed request, however many nonces are refused, up to a point."""
        url, body, *rest = args
        if isinstance(body, messages.NewOrder) and self.replaces:
            body = _Replacement(**dict(body), replaces=self.replaces)
        for _ in range(_NONCES - 1):
            try:
                return super().post(url, body, *rest, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(url, body, *rest, **kwargs)


def _bound(response: requests.Response, *_: object, **__: object) -> None:
    """Read an answer before the library does, which would take it in at any length."""
    body = b""
    for chunk in response.iter_content(_CHUNK):
        body += chunk
        if len(body) > _LARGEST:
            raise Failed(f"{response.url}: answered with more than {_LARGEST} bytes", reached=False)
    response._content = body  # noqa: SLF001 - where `requests` keeps what it has read


@challenges.ChallengeResponse.register
class TlsAlpn01Response(challenges.KeyAuthorizationChallengeResponse):
    """Says that a challenge may be looked at; version 5 of the library has this kind no more."""

    typ = "tls-alpn-01"


@challenges.Challenge.register
class TlsAlpn01(challenges.KeyAuthorizationChallenge):
    """A name to be proved by TLS (RFC 8737)."""

    response_cls = TlsAlpn01Response
    typ = response_cls.typ

    def validation(self, account_key: JWK, **_: object) -> str:
        """The text whose digest is shown."""
        return self.key_authorization(account_key)


class _Replacement(messages.NewOrder):
    replaces: str = field("replaces", omitempty=True)


def retry_after(response: requests.Response, default: float) -> float:
    """Seconds until the time in Retry-After (RFC 9110, section 10.2.3), or `default`."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return default
    return max(when.replace(tzinfo=when.tzinfo or dt.UTC).timestamp() - time.time(), 0.0)


def explain(error: Exception) -> Failed:
    """What went wrong, for people, whichever library says so."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, messages.Error):
        return refusal(error)
    if isinstance(error, requests.RequestException):
        host = getattr(getattr(error, "request", None), "url", None) or "the server"
        return Failed(f"{host}: {_reason(error)}"[:_LONGEST], reached=False)
    if isinstance(error, errors.TimeoutError):
        return Failed("the server did not come to a decision in time")
    if isinstance(error, errors.IssuanceError):
        return refusal(error.error)
    if isinstance(error, errors.ClientError) and error.args and isinstance(error.args[0], requests.Response):
        response = error.args[0]
        return Failed(f"{response.url}: answered {response.status_code}, not as an ACME server", reached=False)
    if isinstance(error, (errors.Error, JoseError)):
        return Failed(f"not as an ACME server answers: {' '.join(str(error).split())}"[:_LONGEST], reached=False)
    return Failed(f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST], reached=False)


def refusal(*faults: messages.Error, of: Sequence[str] = ()) -> Failed:
    """What a server objects to, in full; `of`: the name that each of `faults` is about."""
    names = of or [""] * len(faults)
    phrases = [
        f"{name}: {each}" if name else each
        for name, fault in zip(names, faults, strict=True)
        for each in _problem(fault)
    ]
    kinds = [f"{name} {fault.typ}" for name, fault in zip(names, faults, strict=True)]
    return Failed("; ".join(phrases)[:_LONGEST], kind=" ".join(kinds))


def _problem(error: messages.Error) -> Iterator[str]:
    """A problem document (RFC 7807; RFC 8555, section 6.7), and the ones in it, a phrase each."""
    identifier = getattr(error, "identifier", None)  # of subproblems, in newer versions of the library
    whom = f"{identifier.value}: " if identifier else ""
    yield f"{whom}{error.typ}: {error.detail or error.title or 'no details given'}"
    for each in error.subproblems or ():
        yield from _problem(each)


def _reason(error: BaseException) -> str:
    """The innermost of the errors that `requests` and `urllib3` wrap around what the system said."""
    for _ in range(8):
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        inner = inner or error.__cause__
        if inner is None:
            break
        error = inner
    text = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
    if getattr(error, "verify_message", ""):
        return f"its certificate is not trusted: {text} (acme-ca names the authorities of a private server)"
    return " ".join(text.split())
