"""The command lines and variables of the 2017 program, literally, as its README and its Go flags had them."""

from __future__ import annotations

import pytest

from lab.certificates import make
from lab.sidecar import get, hello_backend, served_certificate, sidecar, wait_until

OURS = make("localhost")


@pytest.mark.parametrize(
    "form",
    [
        ["-cert", "{cert}", "-key", "{key}", "-backend-addr", "{back}", "-frontend-addr", ":{front}"],
        ["-cert={cert}", "-key={key}", "-backend-addr={back}", "-frontend-addr=:{front}", "-log-level=warn"],
        ["--cert", "{cert}", "--key={key}", "--backend-addr", "{back}", "--frontend-addr=:{front}"],
        ["-c", "{cert}", "-k={key}", "--backend-addr={back}", "--frontend-addr", ":{front}"],
        ["/usr/local/bin/gosslterm", "-c={cert}", "-k", "{key}", "-backend-addr={back}", "-frontend-addr=:{front}"],
    ],
)
def test_flags(tmp_path, port, form):
    cert, key = OURS.write(tmp_path)
    with hello_backend() as backend:
        flags = [each.format(cert=cert, key=key, back=f"127.0.0.1:{backend}", front=port) for each in form]
        quiet = "-log-level=warn" in flags
        with sidecar(*flags, ready=None) as running:

            def answered():
                try:
                    return get(port)
                except OSError:
                    return None

            assert wait_until(answered, "an answer") == "hello\n"
            assert bool(running.log) != quiet
            running.stop()


def test_variables_and_start_lines(tmp_path, port):
    cert, key = OURS.write(tmp_path)
    with hello_backend() as backend:
        env = {
            "GOSSLTERM_BACKEND_ADDR": f"127.0.0.1:{backend}",
            "GOSSLTERM_FRONTEND_ADDR": f":{port}",
            "GOSSLTERM_CERT": str(cert),
            "GOSSLTERM_KEY": str(key),
        }
        with sidecar(env=env) as running:
            assert served_certificate(port)
            assert get(port) == "hello\n"
            assert running.said(f"Load cert '{cert}' and key '{key}'")
            assert running.said(f"Serving https on ':{port}' for 127.0.0.1:{backend}")
