"""A TLS handshake in memory, without a process or a socket."""

from __future__ import annotations

import ssl
from contextlib import suppress

from lab.sidecar import any_certificate

TURNS = 4


def shake(
    served: ssl.SSLContext,
    client: ssl.SSLContext | None = None,
    name: str | None = None,
    session: ssl.SSLSession | None = None,
) -> ssl.SSLObject:
    """The client's side, after a byte from the server, with which tickets come. Raises what either side raised."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = (client or any_certificate()).wrap_bio(to_client, to_server, server_hostname=name, session=session)
    far = served.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(TURNS):
        for side in (near, far):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    far.write(b"x")
    assert near.read(1) == b"x"
    return near


def client_with(pem=None, directory=None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that accepts whatever it is shown, and shows `pem`, which is written into `directory` for that."""
    context = any_certificate()
    context.maximum_version = version
    if pem is not None:
        context.load_cert_chain(*pem.write(directory / "client"))
    return context


def leaf(side: ssl.SSLObject | ssl.SSLSocket) -> str:
    """What the server showed, as PEM."""
    der = side.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)
