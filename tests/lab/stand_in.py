"""
A stand-in for byfahrer's authority: the same protocol and real certificates, which may live for seconds; and it can
refuse, hang, answer anything at all, or be away.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from lab.backend import Peer, read_body
from lab.certificates import Pem
from lab.sidecar import wait_until

TOKEN = "v1.target.sidecar." + "5ec2e7" * 10 + "beef"
AGAIN_IN = 0.5


def _root(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return key, builder.sign(key, hashes.SHA256())


def ok(value: object) -> bytes:
    return answer(200, json.dumps(value).encode())


def answer(status: int, body: bytes = b'{"error": "not today"}', *fields: bytes) -> bytes:
    head = b"HTTP/1.1 %d Whatever" % status
    return b"\r\n".join(
        (head, b"Content-Type: application/json", b"Content-Length: %d" % len(body), *fields, b"", body)
    )


class StandIn:
    """Answers at `path` with leaves of `lifetime` seconds for `names`."""

    def __init__(self, directory: Path, lifetime: float) -> None:
        self.path = directory / "authority.sock"
        self.token = directory / "token"
        self.token.write_text(TOKEN + "\n")
        self.token.chmod(0o600)
        self.root = directory / "root.pem"
        self.lifetime = lifetime
        self.renew_in: float | None = None
        self.names = ["localhost", "127.0.0.1", "spiffe://example.org/ns/default/svc/web"]
        self.instead: bytes | str = b""
        """What to answer to a request for a certificate: bytes, or "hang"."""
        self.renew = False
        """What to answer to the next status."""
        self.keys: list[bytes] = []
        """Public keys that were certified."""
        self.tries: list[float] = []
        """When a certificate was asked for."""
        self.statuses: list[dict] = []
        self.heads: list[bytes] = []
        self.failures: list[Exception] = []
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.rotate()
        self.come()

    def rotate(self) -> None:
        """Another root from now on."""
        self._key, self._root = _root("stand-in")
        self.root.write_bytes(self._root.public_bytes(Encoding.PEM))

    def come(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._start(self._accept, self._listener)

    def go(self) -> None:
        """Be away, as after a stop: the socket's file stays behind."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def come_back(self) -> None:
        self.path.unlink()
        self.come()

    def finish(self) -> None:
        self._stopping.set()
        self.go()
        wait_until(lambda: not any(each.is_alive() for each in self._threads), "the end of every conversation")
        assert not self.failures, self.failures

    def _start(self, run, *arguments) -> None:
        self._threads = [each for each in self._threads if each.is_alive()]
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                self._start(self._run, listener.accept()[0])

    def _run(self, raw: socket.socket) -> None:
        with raw:
            try:
                self._converse(Peer(raw))
            except (EOFError, ConnectionError):
                pass  # the sidecar was ended
            except Exception as error:  # noqa: BLE001 - any fault of the stand-in fails its test
                self.failures.append(error)

    def _converse(self, peer: Peer) -> None:
        head = peer.head()
        self.heads.append(head)
        body = read_body(peer, head)
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if b"\r\nAuthorization: Bearer %b\r\n" % TOKEN.encode() not in head:
            peer.send(answer(401, b'{"error": "this token is none of ours"}'))
        elif (method, target) == (b"POST", b"/v1/certificate"):
            self.tries.append(time.monotonic())
            if self.instead == "hang":
                self._stopping.wait()
            elif self.instead:
                peer.send(self.instead)
            else:
                peer.send(self.certificate(body))
        elif (method, target) == (b"GET", b"/v1/authorities"):
            peer.send(ok({"authorities": self.root.read_text()}))
        elif (method, target) == (b"POST", b"/v1/status"):
            self.statuses.append(json.loads(body))
            renew, self.renew = self.renew, False
            peer.send(ok({"renew": renew, "again_in": AGAIN_IN}))
        else:
            peer.send(answer(404))

    def certificate(self, request: bytes, lifetime: float | None = None) -> bytes:
        """The answer to a good request."""
        lifetime = self.lifetime if lifetime is None else lifetime
        wanted = x509.load_pem_x509_csr(request)
        assert wanted.is_signature_valid
        public = wanted.public_key()
        self.keys.append(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        now = dt.datetime.now(dt.UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(seconds=lifetime))
            .add_extension(x509.SubjectAlternativeName([_name(each) for each in self.names]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain = leaf.public_bytes(Encoding.PEM).decode()
        renew_in = self.renew_in or max(lifetime, 1) / 2
        lasts = {"lifetime": max(lifetime, 1), "renew_in": renew_in}
        return ok({"chain": chain, "authorities": self.root.read_text(), **lasts})

    def client(self) -> Pem:
        """A client's certificate for `caller`, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._root.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("caller")]), critical=True)
            .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pem(leaf.public_bytes(Encoding.PEM), secret)

    def flags(self) -> list[str]:
        return [f"--authority={self.path}", f"--authority-token={self.token}"]


def _name(text: str) -> x509.GeneralName:
    if text.startswith("spiffe:"):
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@contextmanager
def authority(directory: Path, lifetime: float = 3600.0) -> Iterator[StandIn]:
    running = StandIn(directory, lifetime)
    try:
        yield running
    finally:
        running.finish()
