"""byfahrer's authority and a sidecar understand each other: a certificate, new names, a new root."""

from __future__ import annotations

import http.client
import ssl
from contextlib import contextmanager

import anyio.from_thread
import pytest
from cryptography import x509

from byfahrer.authority import server, service
from byfahrer.authority.times import utc
from byfahrer.model import Network
from lab.authority import World
from lab.client import relay
from lab.sidecar import PATIENCE, hello_backend, wait_until


class Office:
    """An authority at work in a thread. Its engine is in memory: there the target and its sidecar run as ever."""

    def __init__(self, folder):
        self.world = World(folder, clock=utc)
        self.target, self.sidecar, token = self.world.target()
        self.path, self.token = folder / "a.sock", folder / "token"
        self.token.write_text(token)
        self.token.chmod(0o600)

    @property
    def flags(self):
        return (f"--authority={self.path}", f"--authority-token={self.token}")

    @property
    def roots(self):
        return self.world.root.issuer().authorities

    def look(self):
        """As the reconciler does after an event."""
        self.portal.call(self.world.look, self.target)

    @contextmanager
    def open(self):
        with anyio.from_thread.start_blocking_portal() as self.portal:
            serving = self.portal.start_task_soon(server.run, self.world.authority, self.path, "0")
            wait_until(self.path.exists, "a socket")
            yield self
            serving.cancel()


@pytest.fixture
def office(tmp_path, monkeypatch):
    monkeypatch.setattr(service, "AGAIN", 1.0)
    with Office(tmp_path).open() as opened:
        yield opened


def names(port, roots):
    """The DNS names of what is served, to a client that believes `roots` only; none if it does not."""
    context = ssl.create_default_context(cadata=roots)
    connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=context)
    try:
        connection.connect()
        leaf = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True))
    except ssl.SSLCertVerificationError:
        return []
    finally:
        connection.close()
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_a_sidecar_serves_what_the_authority_gave_it_and_says_so(office):
    with hello_backend() as target, relay(target, *office.flags) as running:
        assert names(running.port, office.roots) == ["localhost", "www"]
        wait_until(lambda: office.world.authority.ledger.of(office.sidecar).heard, "a word from the sidecar")
        holder = office.world.authority.ledger.of(office.sidecar)

    assert (holder.target, holder.source, holder.failing) == ("www", "authority", "")


def test_a_target_that_joins_a_network_gets_a_certificate_with_its_new_names(office):
    with hello_backend() as target, relay(target, *office.flags) as running:
        office.world.engine._set(office.target, networks=(Network(name="net", aliases=("api",)),))
        office.look()
        wait_until(lambda: "api" in names(running.port, office.roots), "a certificate with the new name")


def test_a_rotation_of_the_root_locks_nobody_out(office):
    with hello_backend() as target, relay(target, *office.flags) as running:
        old, before = office.roots, office.world.root.issuer().mark
        office.world.root.rotate()
        new = office.roots.removesuffix(old)
        assert names(running.port, office.roots)
        wait_until(lambda: names(running.port, new), "a certificate of the new root")
        assert names(running.port, old) == names(running.port, new) == ["localhost", "www"]

    assert office.world.authority.ledger.of(office.sidecar).issuer != before
