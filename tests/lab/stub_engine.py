"""An HTTP server in place of an engine, for what no engine does on demand. What it answers, its test says."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StubEngine(BaseHTTPRequestHandler):
    """Answers every request with what `told` returns for its method, its path without version, and its body."""

    def told(self, method, path, body):
        """Status and content. `self.server` has what the test keeps there."""
        raise NotImplementedError

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, content = self.told(self.command, self.path.partition("/v1.41")[2] or self.path, body)
        packed = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        self.wfile.write(packed)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815 - names that the base class asks for

    def log_message(self, *_):
        pass


@contextmanager
def serving(kind, **state):
    """A server of this kind on a free port of loopback, with `state` as its attributes."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    vars(server).update(state)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
