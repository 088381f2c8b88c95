"""Backends that read for themselves: nginx, and one made of h11 that takes nothing that is not exactly right."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h11

from lab.backend import Peer
from lab.sidecar import PATIENCE, free_port, wait_until

Seen = dict[str, list[bytes]]
"""Methods and targets of requests, by the client that they came from (X-Forwarded-For)."""

_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  log_format seen escape=none '$http_x_forwarded_for $request';
  access_log {folder}/seen seen;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  large_client_header_buffers 4 32k;
  server {{
    listen 127.0.0.1:{port};
    # Passed on to the server below only once it is whole, as to an application.
    location / {{ proxy_pass http://127.0.0.1:{inner}; }}
  }}
  server {{
    listen 127.0.0.1:{inner};
    access_log off;
    location / {{ return 204; }}
  }}
}}
"""


class Nginx:
    """A running nginx that takes any request; `seen` says what it read."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "seen"
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=self.port, inner=free_port()))
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        self.process = subprocess.Popen([binary, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)])

    def listens(self) -> bool:
        assert self.process.poll() is None, "nginx ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def seen(self) -> Seen:
        """Also a request that never became whole, once its connection is gone."""
        found: Seen = {}
        for line in self._log.read_bytes().splitlines():
            client, _, first = line.partition(b" ")
            found.setdefault(client.decode(), []).append(first.rpartition(b" HTTP/1.")[0])
        return found


@contextmanager
def nginx(folder: Path) -> Iterator[Nginx]:
    running = Nginx(folder)
    try:
        wait_until(running.listens, "nginx listening")
        yield running
    finally:
        running.process.terminate()
        running.process.wait(PATIENCE)


class Strict:
    """The script of a backend that answers each whole request with 204, as h11 reads it."""

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.faults: list[tuple[str, str]] = []

    def __call__(self, peer: Peer) -> None:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 16)
        client = ""
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError as error:
                self.faults.append((client, str(error)))
                return
            if event is h11.NEED_DATA:
                data = peer.recv()
                if not data:  # cut: what is not whole is not seen
                    return
                reader.receive_data(data)
            elif isinstance(event, h11.Request):
                client = dict(event.headers)[b"x-forwarded-for"].decode()
                first = event.method + b" " + event.target
            elif isinstance(event, h11.EndOfMessage):
                self.seen.setdefault(client, []).append(first)
                peer.send(reader.send(h11.Response(status_code=204, headers=[])) or b"")
                peer.send(reader.send(h11.EndOfMessage()) or b"")
                if reader.our_state is not h11.DONE:
                    return
                reader.start_next_cycle()
            elif not isinstance(event, h11.Data):
                return
