"""
Get a certificate from an ACME server (RFC 8555): a program of its own, for one order.

Started by `acme_process.py`, never imported. It alone loads `acme`, `requests` and `cryptography`, whose 40 MB last as
long as an order does. An order comes as a line of JSON on stdin, and what has become of it goes out on stdout, a line
of JSON each, `event` first:

    account    an account was made, to be kept: `uri`, `key`
    challenge  to be answered from now on: `proofs` (by TLS: name, chain, key), `answers` (by HTTP: token -> text);
               it goes on when a line {"do": "ready"} has come
    issued     `chain`, `key`, `not_before`, `not_after`, `window`: the end
    window     when to renew: `start`, `end`, `ask_in`; all null where the server does not say (RFC 9773): the end
    failed     `why`, `kind`, `reached`, `after`: the end

The key of the certificate is made here and goes to nobody but the process that asked. At the end of stdin this process
ends, too, whatever it is doing.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from acme import client, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from josepy.jwk import JWK

from sslterm.certs.acme_client import Failed, Network, explain, refusal, retry_after

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATIENCE: Final = 240.0
"""Seconds for one order, the server's checks and all."""
_LONGEST_PAUSE: Final = 60.0
"""Seconds between two looks at an authorization, whatever the server says."""
_ACME_IDENTIFIER: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""RFC 8737, section 6.1."""
_UNDECIDED: Final = (messages.STATUS_PENDING, messages.STATUS_PROCESSING)

_lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()


def main() -> None:
    """Carry out one order."""
    threading.Thread(target=_listen, daemon=True).start()
    order = _lines.get()
    network: Network | None = None
    try:
        key = order["key"] or _pem(ec.generate_private_key(ec.SECP256R1()))
        network = Network(JWK.load(key.encode()), order["agent"], order["ca"])
        directory = client.ClientV2.get_directory(order["directory"], network)
        server = _Server(client.ClientV2(directory, network), network, key)
        if order["do"] == "window":
            _tell("window", **server.window(order["chain"]))
        else:
            _tell("issued", **server.issue(order))
    except Exception as error:  # noqa: BLE001 - whatever it is: it is told, and tried again later
        failed = explain(error)
        _tell(
            "failed", why=str(failed), kind=failed.kind, reached=failed.reached, after=network.after if network else 0.0
        )
    os._exit(0)  # the other thread waits for stdin, and would have the interpreter complain of that


def _listen() -> None:
    for line in sys.stdin:
        _lines.put(json.loads(line))
    os._exit(1)  # nobody is there any more


def _tell(event: str, **what: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **what}) + "\n")
    sys.stdout.flush()


class _Server:
    def __init__(self, server: client.ClientV2, network: Network, key: str) -> None:
        self._server = server
        self._network = network
        self._key = key
        self._deadline = time.monotonic() + _PATIENCE

    def issue(self, order: dict[str, Any]) -> dict[str, Any]:
        """The whole of RFC 8555, section 7.1's table."""
        self._sign_in(order["account"], order["email"])
        key = ec.generate_private_key(ec.SECP256R1())
        resource = self._order(_request(key, order["names"]), order)
        self._prove(resource.authorizations, order["challenge"])
        chain = self._finish(resource)
        leaf = x509.load_pem_x509_certificate(chain.encode())
        try:
            window = self.window(chain)
        except Exception:  # noqa: BLE001 - the certificate is there, and that is what counts
            window = None
        return {
            "chain": chain,
            "key": _pem(key),
            "not_before": leaf.not_valid_before_utc.timestamp(),
            "not_after": leaf.not_valid_after_utc.timestamp(),
            "window": window,
        }

    def _sign_in(self, uri: str, email: str) -> None:
        if uri:
            self._network.account = messages.RegistrationResource(uri=uri, body=messages.Registration())
            return
        self._network.account = None
        wanted = messages.NewRegistration.from_data(email=email or None, terms_of_service_agreed=True)
        try:
            uri = self._server.new_account(wanted).uri
        except errors.ConflictError as known:  # the key has one already
            uri = known.location
        self._network.account = messages.RegistrationResource(uri=uri, body=messages.Registration())
        _tell("account", uri=uri, key=self._key)

    def _order(self, csr: bytes, order: dict[str, Any]) -> messages.OrderResource:
        if order["chain"] and self._renewal_info():
            self._network.replaces = _certificate_id(order["chain"])
        try:
            return self._server.new_order(csr)
        except messages.Error as error:
            if self._network.replaces and error.code in ("alreadyReplaced", "malformed", "unauthorized"):
                self._network.replaces = ""  # issued by another account, say: no reason to go without one
            elif error.code == "accountDoesNotExist":
                self._sign_in("", order["email"])
            else:
                raise
        return self._server.new_order(csr)

    def _prove(self, authorizations: Sequence[messages.AuthorizationResource], kind: str) -> None:
        """Have every name validated that is not yet."""
        open_ones = [each for each in authorizations if each.body.status != messages.STATUS_VALID]
        if not open_ones:
            return
        chosen = [_choose(each.body, kind) for each in open_ones]
        jwk = self._network.key
        names = [each.body.identifier.value for each in open_ones]
        texts = [each.chall.key_authorization(jwk) for each in chosen]
        if kind == "http-01":
            answers = {each.chall.encode("token"): text for each, text in zip(chosen, texts, strict=True)}
            _tell("challenge", proofs=[], answers=answers)
        else:
            proofs = [_proof(name, text) for name, text in zip(names, texts, strict=True)]
            _tell("challenge", proofs=proofs, answers={})
        _lines.get()
        for each in chosen:
            self._server.answer_challenge(each, each.chall.response(jwk))
        faults = {}
        for name, each in sorted(zip(names, open_ones, strict=True), key=lambda pair: pair[0]):
            fault = self._decided(name, each)
            if fault is not None:
                faults[name] = fault
        if faults:
            raise refusal(*faults.values(), of=list(faults))

    def _decided(self, name: str, authorization: messages.AuthorizationResource) -> messages.Error | None:
        """Wait for the server's decision; what it found wrong, if it did."""
        while time.monotonic() < self._deadline:
            authorization, response = self._server.poll(authorization)
            if authorization.body.status not in _UNDECIDED:
                break
            time.sleep(min(max(retry_after(response, 1.0), 0.2), _LONGEST_PAUSE))
        else:
            raise Failed(f"{name}: not validated within {_PATIENCE:g} s")
        if authorization.body.status == messages.STATUS_VALID:
            return None
        for each in authorization.body.challenges:
            if each.error:
                found: messages.Error = each.error
                return found
        raise Failed(f"{name}: the authorization is {authorization.body.status.name}")

    def _finish(self, resource: messages.OrderResource) -> str:
        """Have the certificate issued; the chain."""
        while True:
            left = self._deadline - time.monotonic()
            # The library compares with local time, without a zone.
            until = dt.datetime.now() + dt.timedelta(seconds=max(left, 1.0))  # noqa: DTZ005
            try:
                return str(self._server.finalize_order(resource, until).fullchain_pem)
            except messages.Error as error:
                if error.code != "orderNotReady" or left < 0:
                    raise
            time.sleep(1)

    def _renewal_info(self) -> str:
        try:
            return str(self._server.directory["renewalInfo"])
        except KeyError:
            return ""

    def window(self, chain: str) -> dict[str, float | None]:
        """When the server suggests that this certificate be renewed (RFC 9773)."""
        url = self._renewal_info()
        if not url:
            return {"start": None, "end": None, "ask_in": None}
        response = self._network.get(f"{url.rstrip('/')}/{_certificate_id(chain)}")
        suggested = response.json()["suggestedWindow"]
        start, end = (dt.datetime.fromisoformat(suggested[at]).timestamp() for at in ("start", "end"))
        return {"start": start, "end": end, "ask_in": retry_after(response, 21600.0)}


def _request(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _choose(authorization: messages.Authorization, kind: str) -> messages.ChallengeBody:
    offered = {str(each.chall.to_partial_json().get("type")): each for each in authorization.challenges}
    if kind not in offered:
        raise Failed(f"{authorization.identifier.value}: {kind} is not offered, only {', '.join(sorted(offered))}")
    found: messages.ChallengeBody = offered[kind]
    return found


def _proof(name: str, text: str) -> dict[str, str]:
    """The certificate by which TLS-ALPN proves a name (RFC 8737, section 3), and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ACME challenge")])
    digest = b"\x04\x20" + hashlib.sha256(text.encode()).digest()  # an OCTET STRING of 32 bytes
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return {"name": name, "chain": certificate.public_bytes(Encoding.PEM).decode(), "key": _pem(key)}


def _certificate_id(chain: str) -> str:
    """How an ACME server calls a certificate (RFC 9773, section 4.1): its issuer's key id and its serial number."""
    leaf = x509.load_pem_x509_certificate(chain.encode())
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")  # room for the sign
    return ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in (issuer, serial))


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


if __name__ == "__main__":
    main()
