"""The gate: a verdict for every certificate, and OpenSSL's reasons sorted by what they are."""

from __future__ import annotations

import pytest

from sslterm.protocol.tls import CertificateError, TlsError
from sslterm.relay.gate import ANYBODY, Gate, reason
from sslterm.relay.tally import BAD_CERTIFICATE, BAD_IDENTITY, EXPIRED, NO_CERTIFICATE, NOT_ALLOWED
from sslterm.settings import ClientAuth, Settings

END = 1893836083.0
DER = b"der"


class Session:
    def __init__(self, *alternatives, fault=None, shown=True):
        self._alternatives = alternatives
        self._fault = fault
        self._shown = shown

    def certificate(self):
        if self._fault:
            raise TlsError(self._fault)
        if not self._shown:
            return None
        return {"subject": (), "subjectAltName": self._alternatives, "notAfter": "Jan  5 09:34:43 2030 GMT"}, DER


def gate(*allow, wanted=ClientAuth.REQUIRED, now=END - 1):
    settings = Settings(client_auth=wanted, allow=allow or ("web",), client_ca="ca.pem")
    return Gate(settings, lambda: now)


def test_who_is_allowed():
    verdict = gate().judge(Session(("DNS", "web")))

    assert (verdict.denied, verdict.why) == (0, "")
    assert verdict.peer.name == "web"


@pytest.mark.parametrize(
    ("session", "denied", "why", "named"),
    [
        (Session(("DNS", "api")), NOT_ALLOWED, "api is not allowed to call", True),
        (Session(("URI", "spiffe://td/web")), NOT_ALLOWED, "spiffe://td/web is not allowed to call", True),
        (Session(shown=False), NO_CERTIFICATE, "the client showed no certificate", False),
        (
            Session(("DNS", "web"), ("URI", "spiffe://td/a"), ("URI", "spiffe://td/b")),
            BAD_IDENTITY,
            "the client's certificate is refused: 2 URIs beside a SPIFFE ID, which must be the only one",
            False,
        ),
        (Session(fault="it is odd"), BAD_IDENTITY, "the client's certificate is refused: it is odd", False),
    ],
)
def test_who_is_not(session, denied, why, named):
    verdict = gate().judge(session)

    assert (verdict.denied, verdict.why, verdict.peer is not None) == (denied, why, named)


@pytest.mark.parametrize(("now", "denied"), [(END - 0.5, 0), (END, EXPIRED), (END + 9, EXPIRED)])
def test_the_date_is_looked_at_again(now, denied):
    verdict = gate(now=now).judge(Session(("DNS", "web")))

    assert verdict.denied == denied
    assert verdict.why == ("the certificate of web has expired" if denied else "")


def test_optional_lets_in_who_shows_none_and_nobody_who_is_not_allowed():
    optional = gate(wanted=ClientAuth.OPTIONAL)

    assert optional.judge(Session(shown=False)) is ANYBODY
    assert optional.judge(Session(("DNS", "api"))).denied == NOT_ALLOWED


def test_optional_without_patterns_lets_in_whoever_was_verified():
    assert not Gate(Settings(client_auth=ClientAuth.OPTIONAL, client_ca="ca.pem")).judge(Session(("DNS", "x"))).denied


def test_names_cannot_forge_a_line():
    verdict = gate().judge(Session(("DNS", "a\nb"), ("DNS", "web\x1b[31m")))

    assert verdict.why.isprintable()
    assert verdict.denied == NOT_ALLOWED


@pytest.mark.parametrize(
    ("missing", "expired", "counted"),
    [(True, False, NO_CERTIFICATE), (False, True, EXPIRED), (False, False, BAD_CERTIFICATE)],
)
def test_handshakes_that_failed(missing, expired, counted):
    assert reason(CertificateError("why", missing=missing, expired=expired)) == counted
