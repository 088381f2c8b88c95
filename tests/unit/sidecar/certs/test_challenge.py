"""What answers a server that checks a name by TLS: the right proof for each name, and nobody else."""

from __future__ import annotations

import ssl

import pytest

from lab.certificates import make
from sslterm.certs.challenge import Proof, build

PAIRS = {name: make(name) for name in ("a.example", "b.example")}
PROOFS = [Proof(name, pem.cert.decode(), pem.key.decode()) for name, pem in PAIRS.items()]


def shake(context: ssl.SSLContext, name: str | None, *protocols: str) -> ssl.SSLObject:
    """A client's side after a handshake with `context`."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    if protocols:
        client.set_alpn_protocols(list(protocols))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near


@pytest.mark.parametrize("name", ["a.example", "b.example", "B.EXAMPLE"])
def test_each_name_gets_its_own_proof(name):
    context = build(PROOFS)
    assert context is not None
    near = shake(context, name, "acme-tls/1")

    assert near.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(PAIRS[name.lower()].cert.decode())
    assert near.selected_alpn_protocol() == "acme-tls/1"


@pytest.mark.parametrize("name", ["c.example", None])
def test_other_names_get_none(name):
    context = build(PROOFS)
    assert context is not None
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        shake(context, name, "acme-tls/1")


def test_nothing_to_prove_is_nothing_to_show():
    assert build([]) is None
