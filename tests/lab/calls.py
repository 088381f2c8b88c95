"""Two sidecars of an authority of their own: one before a backend, one beside the program that calls it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from lab.backend import Backend, Peer
from lab.certificates import Pem
from lab.client import nothing_left, open_files, relay
from lab.private_ca import BOTH, PrivateCa
from lab.sidecar import SERVING, Sidecar, free_port, sidecar

CA = PrivateCa.made("of the services")
CALLER = CA.issue("web", "spiffe://byfahrer.internal/ns/shop/svc/web", usage=BOTH)
SERVER = CA.issue("localhost", "127.0.0.1", "spiffe://byfahrer.internal/ns/shop/svc/db", usage=BOTH)
ALLOWED = "--allow=spiffe://byfahrer.internal/ns/shop/svc/web"


def files(folder: Path, pem: Pem = CALLER, ca: PrivateCa = CA) -> list[str]:
    """Flags for a certificate and the authorities to believe, which are written into `folder`."""
    cert, key = pem.write(folder)
    (folder / "ca.pem").write_bytes(ca.pem)
    return [f"--cert={cert}", f"--key={key}", f"--client-ca={folder / 'ca.pem'}"]


class Program(Peer):
    """A program that calls through its sidecar, in plain text."""

    def __init__(self, port: int, *, receive_buffer: int = 0) -> None:
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        super().__init__(raw)
        try:
            raw.connect(("127.0.0.1", port))
        except BaseException:
            raw.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def calling(folder: Path, server: int, *flags: str, pem: Pem = CALLER, mortal: bool = False) -> Iterator[Sidecar]:
    """
    A sidecar whose port `outlet` leads to a TLS server on a loopback port; at the end it holds no socket any more.

    `mortal`: the test itself ends it.
    """
    port = free_port()
    own = [f"--outbound=:{port}=localhost:{server}", *files(folder, pem), f"--frontend-addr=127.0.0.1:{free_port()}"]
    names = [flag.partition("=")[0] for flag in flags]
    with sidecar(
        *[flag for flag in own if flag.partition("=")[0] not in names], *flags, ready=None if mortal else SERVING
    ) as running:
        running.outlet = port
        running.wait_for(SERVING)
        running.idle = open_files(running.pid)
        yield running
        if not mortal:
            nothing_left(running)


@contextmanager
def serving(folder: Path, backend: Backend, *flags: str, pem: Pem = SERVER) -> Iterator[Sidecar]:
    """A sidecar in tcp mode before `backend`, which lets in the caller and nobody else."""
    own = ["--mode=tcp", "--client-auth=required", ALLOWED]
    names = [flag.partition("=")[0] for flag in flags]
    own = [flag for flag in own if flag.partition("=")[0] not in names]
    with relay(backend, *files(folder, pem), *own, *flags) as running:
        yield running
