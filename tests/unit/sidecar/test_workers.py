"""The first process's side of the workers: who cannot be started is an error, and who is started late knows it all."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys

import anyio
import anyio.to_thread
import pytest

from lab.certificates import make
from lab.sidecar import any_certificate
from lab.waiting import until
from sslterm.certs.bundle import Bundle, Credentials
from sslterm.certs.challenge import Proof
from sslterm.certs.store import Store
from sslterm.endpoints import Unable
from sslterm.relay.listener import bind
from sslterm.relay.policy import Backend
from sslterm.settings import Address, Mode, Settings, TlsProfile
from sslterm.workers import Pool

PAIR = make("localhost")
IDENTITY = Store(Mode.HTTP, TlsProfile.INTERMEDIATE).put(
    Credentials((Bundle(PAIR.cert, PAIR.key, "cert.pem", "key.pem"),))
)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("/bin/false", "workers=2: one of them exited with 1 at once"),
        ("/no/such/program", "workers=2: cannot start a process: No such file or directory"),
    ],
)
def test_workers_that_cannot_start_are_an_error_at_once(monkeypatch, program, reason):
    monkeypatch.setattr(sys, "executable", program)

    async def start():
        pool = Pool(Settings(workers=2), lambda *_: None)
        try:
            await pool.start(IDENTITY)
        finally:
            pool.close()

    with pytest.raises(Unable) as error:
        anyio.run(start)
    assert str(error.value) == reason
    assert error.value.code == 1


def shown(port: int) -> bytes:
    """The certificate that a client is shown who checks a name by TLS-ALPN (RFC 8737)."""
    context = any_certificate()
    context.set_alpn_protocols(["acme-tls/1"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="site.example") as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def test_a_worker_that_replaces_another_answers_an_acme_servers_checks_too():
    made = make("site.example")
    proof, plain = (ssl.PEM_cert_to_DER_cert(each.cert.decode()) for each in (made, PAIR))

    async def live():
        settings = Settings(workers=2, access_log=False)
        pool = Pool(settings, lambda *_: None)
        listener = bind(Address("127.0.0.1", 0))
        port = listener.getsockname()[1]

        async def all_shown() -> set[bytes]:
            return {await anyio.to_thread.run_sync(shown, port) for _ in range(12)}

        try:
            await pool.start(IDENTITY)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pool.run)
                await pool.serve(listener, (Backend(socket.AF_INET, ("127.0.0.1", 9)),))
                await pool.challenge([Proof("site.example", made.cert.decode(), made.key.decode())])
                assert await all_shown() == {proof}

                first = pool._workers[0]
                os.kill(first._process.pid, signal.SIGKILL)
                await until(lambda: pool._workers[0] is not first and pool._workers[0].took == pool._number, 30)
                assert await all_shown() == {proof}

                await pool.challenge([])
                assert await all_shown() == {plain}
                pool.stop()
        finally:
            pool.close()

    anyio.run(live)
