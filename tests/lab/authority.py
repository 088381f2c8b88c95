"""What tests of the authority need of the other side: keys, requests, and a client that verifies as OpenSSL does."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from byfahrer.authority.ca import OwnRoot
from byfahrer.authority.ledger import Ledger
from byfahrer.authority.report import Report
from byfahrer.authority.service import Authority
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import Tokens
from byfahrer.reconcile.observe import observe
from lab.memory_engine import MemoryEngine

ASKS = {"byfahrer.proxy-image": "sslterm"}
NOW = dt.datetime(2026, 11, 24, 12, 0, 0, tzinfo=dt.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


class Clock:
    """A time that only tests move."""

    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now

    def pass_(self, **time):
        self.now += dt.timedelta(**time)


def request(*names, key=KEY, common_name=None, uris=(), others=()):
    """A certificate request in PEM."""
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    general = [general_name(each) for each in names]
    general += [x509.UniformResourceIdentifier(each) for each in uris] + list(others)
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.PEM)


def general_name(text):
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def certificates(pem):
    return x509.load_pem_x509_certificates(pem.encode())


def key_pem(key=KEY):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def verify(folder, chain, roots, *more, at=NOW, name=None):
    """What `openssl verify` says of a chain, for a client that knows these roots (PEM) only; "" if it is content."""
    leaf, *between = certificates(chain)
    for file, content in (
        ("leaf.pem", leaf.public_bytes(Encoding.PEM)),
        ("between.pem", b"".join(each.public_bytes(Encoding.PEM) for each in between)),
        ("roots.pem", roots.encode()),
    ):
        (folder / file).write_bytes(content)
    command = [
        "openssl", "verify", "-x509_strict", "-attime", str(int(at.timestamp())), "-no-CApath", "-no-CAstore",
        "-CAfile", str(folder / "roots.pem"), *(["-verify_hostname", name] if name else []), *more,
        *(["-untrusted", str(folder / "between.pem")] if between else []), str(folder / "leaf.pem"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def shake_hands(folder, chain, roots, name, key=KEY):
    """Have a server with this chain and a client that knows these roots meet; ssl.SSLError if the client minds."""
    folder.mkdir(exist_ok=True)
    (folder / "chain.pem").write_text(chain)
    (folder / "key.pem").write_bytes(key_pem(key))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client_context.load_verify_locations(cadata=roots)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return
    raise AssertionError("no end of the handshake")


class World:
    """An engine in memory with sidecars, an authority, and a time that only tests move."""

    def __init__(self, path, clock=None, **more):
        self.clock = clock or Clock()
        self.engine = MemoryEngine()
        self.folder = StateFolder(path / "state")
        self.root = OwnRoot(self.folder, now=self.clock)
        self.more = more
        self.restart()

    def restart(self):
        """As the injector does: with what is in the state folder, and nothing else."""
        self.authority = Authority(
            self.engine, self.root, Tokens.load(self.folder), Ledger(self.folder), now=self.clock,
            clock=lambda: self.clock().timestamp(), **self.more,
        )  # fmt: skip

    def target(self, name="www", labels=ASKS, **fields):
        """A target and its sidecar; their IDs, and the token."""
        target = self.engine.run(name, labels, **fields)
        sidecar = self.engine.run(f"{name}-proxy", {"byfahrer.target": target}, network_mode=f"container:{target}")
        return target, sidecar, self.authority.token(target, sidecar)

    async def look(self, target):
        self.authority.seen(await observe(self.engine, target))

    async def obtain(self, token, *names, **more):
        return await self.authority.certificate(token, request(*names, **more))

    async def word(self, token, **fields):
        return await self.authority.status(token, Report(**{"source": "authority", **fields}))


def spoilt(token):
    """Like a token of ours, but made by somebody else."""
    return token[:-1] + ("1" if token.endswith("0") else "0")
