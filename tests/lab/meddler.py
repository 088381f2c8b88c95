"""
Sits between an injector and the engine, understands what they say, and does to it what a test wants.

Calls can fail, take long, stop half way, and bring back other things than the engine said. `engine_proxy` is the other
one, for connections that break or fall silent: it looks at no call.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

from lab.waiting import wait_until


class Rule:
    """What is done to calls of one kind; this one does nothing."""

    def __init__(self, method="", path=""):
        self._method, self._path = method, re.compile(path)

    def concerns(self, method, path):
        return method in (self._method or method) and self._path.search(path) is not None

    def before(self):
        """What to answer instead of the engine: status and body; None to ask it."""

    def after(self, status, body):
        """What becomes of an answer."""
        return status, body


class Fails(Rule):
    """A share of the calls, or all of them, fail as with an engine that is in trouble."""

    def __init__(self, method="", path="", *, share=1.0, status=500, seed=1):
        super().__init__(method, path)
        self._share, self._status = share, status
        self._random = random.Random(
            seed
        )  # not each third one: such calls would fall into step with those who make them

    def before(self):
        if self._random.random() < self._share:
            return self._status, b'{"message": "Internal Server Error: a fault of the test"}'
        return None


class Delays(Rule):
    """Calls take that much longer."""

    def __init__(self, seconds, method="", path=""):
        super().__init__(method, path)
        self._over = threading.Event()
        self._seconds = seconds

    def before(self):
        self._over.wait(self._seconds)

    def over(self):
        """What waits goes on."""
        self._over.set()


class Holds(Rule):
    """The first such call is held, before the engine hears of it or with the engine's answer, until it is let go."""

    def __init__(self, method, path, *, answered=False):
        super().__init__(method, path)
        self._answered = answered
        self._held, self._go = threading.Event(), threading.Event()
        self._lost = False

    def before(self):
        if not self._answered:
            self._hold()

    def after(self, status, body):
        if self._answered:
            self._hold()
        return status, body

    def _hold(self):
        if not self._held.is_set():
            self._held.set()
            self._go.wait(60)
            if self._lost:
                raise ConnectionResetError("the test lost this call")

    def is_reached(self):
        wait_until(self._held.is_set, 30)

    def go(self):
        self._go.set()

    def lose(self):
        """Let it never arrive: whoever made it is gone."""
        self._lost = True
        self._go.set()


class Rewrites(Rule):
    """`change` makes of an answer's content what is told instead."""

    def __init__(self, change, method="", path=""):
        super().__init__(method, path)
        self._change = change

    def after(self, status, body):
        return status, json.dumps(self._change(json.loads(body))).encode() if status == http.HTTPStatus.OK else body


class _Engine(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class _Call(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _forward(self):
        meddler = self.server.meddler
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        meddler.calls.append((time.monotonic(), self.command, self.path))
        rules = [rule for rule in meddler.rules if rule.concerns(self.command, self.path)]
        try:
            for rule in rules:
                answer = rule.before()
                if answer:
                    self._answer(*answer)
                    return
            engine = _Engine(meddler.engine)
            with meddler.open_for(self.connection, engine), contextlib.closing(engine):
                engine.request(self.command, self.path, body, dict(self.headers.items()))
                response = engine.getresponse()
                if "/events?" in self.path:
                    self._stream(response)
                    return
                status, content = response.status, response.read()
            for rule in reversed(rules):
                status, content = rule.after(status, content)
            kept = ("Content-Type", "Api-Version", "X-Docker-Container-Path-Stat")
            self._answer(status, content, {key: value for key, value in response.getheaders() if key in kept})
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _forward  # noqa: N815 - the names that http.server looks for

    def _answer(self, status, content, headers=None):
        self.send_response_only(status)
        for key, value in (headers or {"Content-Type": "application/json"}).items():
            self.send_header(key, value)
        if status != http.HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _stream(self, response):
        self.send_response_only(response.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while chunk := response.read1(65536):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.close_connection = True


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """A client that went away is no error of the test's; anything else is one of its rules'."""
        if not isinstance(sys.exception(), OSError):
            self.meddler.errors.append(sys.exception())


class Meddler:
    """A socket of the engine's kind. What rules say holds from the moment they are added."""

    def __init__(self, folder, engine=None):
        self.path = folder / "meddled.sock"
        self.engine = (engine or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock").removeprefix("unix://")
        self.rules: list[Rule] = []
        self.calls: list[tuple[float, str, str]] = []
        """When, how and where: all that was asked."""
        self.errors: list[BaseException] = []
        """Of the rules themselves."""
        self._open: list[tuple[socket.socket, http.client.HTTPConnection]] = []
        self._server = _Server(str(self.path), _Call)
        self._server.meddler = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def env(self):
        return {"DOCKER_HOST": f"unix://{self.path}"}

    def add(self, rule):
        self.rules.append(rule)
        return rule

    def asked(self, method, path):
        """When such calls were made."""
        return [at for at, how, where in list(self.calls) if how == method and re.search(path, where)]

    @contextlib.contextmanager
    def open_for(self, client, engine):
        self._open.append((client, engine))
        try:
            yield
        finally:
            self._open.remove((client, engine))

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for client, engine in list(self._open):
            for each in (client, engine.sock):
                with contextlib.suppress(OSError, AttributeError):
                    each.shutdown(socket.SHUT_RDWR)
        self.path.unlink()
        assert self.errors == []
