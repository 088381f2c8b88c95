"""
An injector with an authority of its own, and what those see who believe that authority and nobody else.

The folders have short names and are not pytest's: the path of a unix socket has 107 bytes, and a sidecar's user has to
reach it.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import json
import shutil
import socket
import ssl
import tarfile
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.certificates import Pem
from lab.engine import Lab
from lab.injector import Injector, byfahrer
from lab.private_ca import PrivateCa
from lab.waiting import wait_until

DOMAIN = "byfahrer.internal"
PORT = 8081
PATIENCE = 20.0


class Home:
    """The folders of an injector, and the environment that names them."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="byf-", dir="/tmp"))
        self.path.chmod(0o755)
        self.env = {"BYFAHRER_STATE_DIR": str(self.path / "state"), "BYFAHRER_RUN_DIR": str(self.path / "run")}

    @property
    def socket(self):
        return self.path / "run" / "authority.sock"

    def root(self):
        """The root now, as a user gets it."""
        done = byfahrer("ca", "root", env=self.env)
        assert done.code == 0, done.err
        return done.out

    def authority(self):
        """The authority with its key: for certificates that it would never give."""
        told = json.loads((self.path / "state" / "ca.json").read_text())
        (self.path / "key.pem").write_text(told["key"])
        (self.path / "root.pem").write_text(told["root"])
        return PrivateCa.read(self.path / "root.pem", self.path / "key.pem")

    def remove(self):
        shutil.rmtree(self.path)


@dataclass
class Scene:
    """Containers, and the injector that looks after them; several tests of a module may share one."""

    lab: Lab
    home: Home
    injector: Injector | None = None

    def begin(self, *options):
        """Start the injector, for the first time or again."""
        self.injector = Injector(self.lab.scope, *options, env=self.home.env)
        return self.injector.is_ready()

    def target(self, name="www", program=None, **labels):
        """A labelled target, with a sidecar whose certificate is the authority's."""
        made = self.lab.run(
            name, labels={f"byfahrer.{label.replace('_', '-')}": value for label, value in labels.items()},
            **({"entrypoint": ["/usr/bin/python3", "-c", program]} if program else {}),
        )  # fmt: skip
        trusting = client(self.home.root())
        address = self.lab.address(made)
        wait_until(lambda: leaf(address, trusting), PATIENCE)
        return made

    def sidecar(self, target):
        return self.lab.sidecars(target)[0]["Id"]


@contextmanager
def scene(engine, *, tell=True):
    """`tell`: print what the injector said, which is shown where a test fails."""
    made = Scene(Lab(engine), Home())
    try:
        yield made
    finally:
        if made.injector:
            if not made.injector.ended:
                made.injector.stop()
            if tell:
                print(*made.injector.lines, sep="\n")
        made.lab.clean()
        made.home.remove()


# Clients.


def client(roots, pair=None):
    """A client that believes `roots` (PEM) only, and shows `pair` to who asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=roots if isinstance(roots, str) else roots.decode())
    if pair is not None:
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*pair.write(Path(folder)))
    return context


def leaf(address, context, name="localhost", port=PORT):
    """The certificate that is served, verified; None where nobody serves, or one that `context` does not take."""
    try:
        with (
            socket.create_connection((address, port), 5) as raw,
            context.wrap_socket(raw, server_hostname=name) as tls,
        ):
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
    except OSError:
        return None


def get(address, context, path="/headers", name="localhost", port=PORT, headers=None):
    """Status and body; none and the reason where there was no answer."""
    connection = Named(address, port, context, name)
    try:
        connection.request("GET", path, headers={"Host": name} | (headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    except ssl.SSLError as error:
        return None, error.reason or str(error)
    finally:
        connection.close()


class Named(http.client.HTTPSConnection):
    """To an address, and for another name than that."""

    def __init__(self, address, port, context, name):
        super().__init__(address, port, timeout=PATIENCE, context=context)
        self._name, self._own = name, context

    def connect(self):
        raw = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._own.wrap_socket(raw, server_hostname=self._name)


class Watch:
    """Verified requests, each on a connection of its own, one after the other until the end."""

    def __init__(self, address, roots, name="localhost"):
        self.serials: list[int] = []
        self.failures: list[str] = []
        self.answered = 0
        self._where = (address, client(roots), name)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        address, context, name = self._where
        while not self._over.wait(0.1):
            connection = Named(address, PORT, context, name)
            try:
                connection.request("GET", "/1", headers={"Host": name})
                served = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True)).serial_number
                assert connection.getresponse().read()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(repr(error))
            else:
                self.answered += 1
                if served not in self.serials:
                    self.serials.append(served)
            finally:
                connection.close()

    def end(self):
        self._over.set()
        self._thread.join()


# What a sidecar does, done by somebody else.


def file_of(lab, container_id, path):
    """Read out of a container or its volumes, as who has the engine can."""
    stream, _ = lab.api.get_archive(container_id, path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return archive.extractfile(archive.getmembers()[0]).read().decode()


def token_of(lab, sidecar_id):
    return file_of(lab, sidecar_id, "/run/sslterm/token").strip()


def post(where, path, token, body):
    """Status and answer of the authority; the answer as JSON."""
    connection = http.client.HTTPConnection("authority", timeout=PATIENCE)
    with contextlib.closing(connection), contextlib.closing(socket.socket(socket.AF_UNIX)) as raw:
        raw.settimeout(PATIENCE)
        raw.connect(str(where))
        connection.sock = raw
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def certificate(home, token, *names):
    """Ask for one for `names`: status, answer, and the pair if there is one."""
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        asked = x509.SubjectAlternativeName([general_name(each) for each in names])
        csr = csr.add_extension(asked, critical=False)
    request = csr.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    status, answer = post(home.socket, "/v1/certificate", token, request)
    if status != 200:
        return status, answer, None
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return status, answer, Pem(answer["chain"].encode(), private)


def general_name(text):
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
