#!/usr/bin/python3 -P
"""
The demo's target: a plain HTTP/1.1 service, as small as the image of 2017 that it stands for.

`HTTPCHECK_ADDR` is where it listens. With `HTTPCHECK_MAKE_CERT=1` it makes a self-signed pair in /opt/qnib/ssl at its
start, for a sidecar that gets it by `--volumes-from`; the pair is never part of the image.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import NoReturn

SSL_DIR = Path("/opt/qnib/ssl")
MAX_N = 10_000_000  # about a second's work

INDEX = f"""\
httpcheck: a plain HTTP service
/pi/N      pi from the first N+1 terms of Leibniz' series, N up to {MAX_N}
/headers   the headers of your request as they arrived here: a JSON list of [name, value]
"""


def pi(n: int) -> float:
    """Terms 0 to n of Leibniz' series."""
    return 4 * sum((1 - 2 * (k & 1)) / (2 * k + 1) for k in range(n + 1))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one segment

    def do_GET(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # its body is not read here, so nothing after it can be
        path = self.path.partition("?")[0]
        if path == "/":
            self.answer(INDEX)
        elif path == "/headers":
            self.answer(json.dumps(self.headers.items()) + "\n", kind="application/json")
        elif path.startswith("/pi/"):
            digits = path.removeprefix("/pi/")
            if digits.isascii() and digits.isdigit() and len(digits) < 10 and int(digits) <= MAX_N:
                self.answer(f"Welcome: pi({int(digits)})={pi(int(digits)):.6f}\n")
            else:
                self.answer(f"/pi/N: expected N from 0 to {MAX_N}\n", HTTPStatus.BAD_REQUEST)
        else:
            self.answer("not found: there are /, /pi/N and /headers\n", HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def version_string(self) -> str:
        return "httpcheck"

    def answer(self, text: str, status: HTTPStatus = HTTPStatus.OK, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def make_certificate() -> None:
    """A self-signed pair for this container's names; the key appears first, both appear whole."""
    if (SSL_DIR / "cert.pem").exists():
        return
    names = f"subjectAltName=DNS:localhost,DNS:{socket.gethostname()},IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-config", "/dev/null", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-noenc", "-days", "30", "-subj", f"/CN={socket.gethostname()}", "-addext", names,
         "-keyout", SSL_DIR / "key.new", "-out", SSL_DIR / "cert.new"],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    (SSL_DIR / "key.new").rename(SSL_DIR / "key.pem")
    (SSL_DIR / "cert.new").rename(SSL_DIR / "cert.pem")


def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


def main() -> None:
    signal.signal(signal.SIGTERM, stop)  # PID 1 has no default action for it
    address = os.environ.get("HTTPCHECK_ADDR") or ":8080"
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        sys.exit(f"HTTPCHECK_ADDR={address!r}: expected host:port, :port or [v6]:port")
    if os.environ.get("HTTPCHECK_MAKE_CERT") == "1":
        make_certificate()
    if ":" in host:
        Server.address_family = socket.AF_INET6
    with Server((host, int(port)), Handler) as server:
        print(f"httpcheck listens on {address}")
        server.serve_forever()


if __name__ == "__main__":
    main()
