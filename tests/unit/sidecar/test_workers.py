"""The first process's side of the workers: those that cannot be started at all are an error of the start."""

from __future__ import annotations

import sys

import anyio
import pytest

from lab.certificates import make
from sslterm.certs.bundle import Bundle, Credentials
from sslterm.certs.store import Store
from sslterm.endpoints import Unable
from sslterm.settings import Mode, Settings, TlsProfile
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
