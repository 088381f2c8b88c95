"""A sidecar and byfahrer's own authority, over a real socket: only the engine is one in memory."""

from __future__ import annotations

import os
import signal
import ssl

import anyio
import anyio.from_thread
import pytest
from cryptography import x509

from byfahrer.authority import server, service
from byfahrer.authority.ca import OwnRoot
from byfahrer.authority.ledger import Ledger
from byfahrer.authority.service import Authority
from byfahrer.authority.state import StateFolder
from byfahrer.authority.tokens import Tokens
from byfahrer.model import Network
from byfahrer.reconcile.observe import observe
from lab.client import Client, get, relay
from lab.memory_engine import MemoryEngine
from lab.sidecar import hello_backend, served_certificate, wait_until


def names(port):
    """What is in the certificate that is served."""
    leaf = x509.load_der_x509_certificate(served_certificate(port))
    return {str(each.value) for each in leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value}


@pytest.mark.parametrize("workers", [1, 2])
def test_names_are_the_targets_and_follow_it(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(service, "AGAIN", 1.0)
    engine = MemoryEngine()
    target = engine.run("www", {"byfahrer.proxy-image": "sslterm"})
    sidecar = engine.run("www-proxy", {"byfahrer.target": target}, network_mode=f"container:{target}")
    folder = StateFolder(tmp_path / "state")
    authority = Authority(engine, OwnRoot(folder), Tokens.load(folder), Ledger(folder))
    path, token = tmp_path / "run" / "authority.sock", tmp_path / "token"
    token.write_text(authority.token(target, sidecar))

    async def look():
        authority.seen(await observe(engine, target))

    with anyio.from_thread.start_blocking_portal() as portal, hello_backend() as backend:
        portal.call(look)
        served = portal.start_task_soon(server.run, authority, path, str(os.geteuid()))
        wait_until(path.exists, "the authority's socket")
        roots = ssl.create_default_context(cadata=authority.issuer().authorities)
        roots.verify_flags |= ssl.VERIFY_X509_STRICT
        flags = f"--authority={path}", f"--authority-token={token}", f"--workers={workers}"
        with relay(backend, *flags) as running:
            assert {"localhost", "www", "spiffe://byfahrer.internal/ns/default/svc/www"} <= names(running.port)
            with Client(running.port, roots) as client:
                assert client.ask(get())[0] == 200

            def reported():
                return next((each for each in authority.ledger if each.requests), None)

            assert wait_until(reported, "a report with a request").failing == ""

            engine._set(target, networks=(Network(name="shop", aliases=("web",), addresses=("10.9.8.7",)),))
            portal.call(look)
            running.wait_for("Certificate reloaded: authority for ")
            assert {"web", "10.9.8.7"} <= names(running.port)

            engine.delete(target)
            running.signal(signal.SIGHUP)
            running.wait_for(
                "the one before stays in force: authority .*: refused with 403: this token's target is gone"
            )
            with Client(running.port, roots) as client:
                assert client.ask(get())[0] == 200
        served.cancel()
