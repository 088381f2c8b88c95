"""
The proxies: how each is configured, as somebody who knows it well would, and started in the foreground.

All get the same certificate and the same cipher, keep connections open on both sides for as long as the load does, and
are allowed 9,000 clients. Each is one process with one thread for the traffic (stunnel: a thread for each connection).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CIPHER = "TLS_AES_128_GCM_SHA256"
ROOT = Path(__file__).parents[1]
BUILT = ROOT / ".cache" / "bench"
"""Where the programs of bench/*.go are built."""


@dataclass(frozen=True)
class Place:
    """What a proxy is given: a folder of its own, where to listen and to connect, who to be, whether to log."""

    folder: Path
    frontend: str
    backend: str
    cert: Path
    key: Path
    log: bool = False
    workers: int = 1

    @property
    def port(self) -> str:
        return self.frontend.rpartition(":")[2]

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True)
class Command:
    arguments: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    stdout: str = "stdout"
    """Name of the file in the place's folder that gets its standard output; access.log is where all log requests."""


@dataclass(frozen=True)
class Proxy:
    name: str
    kind: str
    """http or tcp: what it understands, and so whom it is compared with."""
    command: Callable[[Place], Command]
    version: tuple[str, ...]
    logs: bool = False
    """Whether it can write a line for each request."""

    @property
    def ours(self) -> bool:
        return self.name.startswith("sslterm")


def nginx(place: Place, body: str, modules: str = "") -> Command:
    text = f"""{modules}{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
daemon off;
pid {place.folder}/pid;
error_log {place.folder}/error.log error;
events {{ worker_connections 18100; }}
{body}
"""
    return Command(["nginx", "-p", str(place.folder), "-e", "error.log", "-c", place.write("nginx.conf", text)])


def nginx_tls(place: Place, cache: str) -> str:
    return f"""
        ssl_certificate {place.cert};
        ssl_certificate_key {place.key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER};
        ssl_session_cache shared:{cache}:10m;
        ssl_session_tickets on;"""


def nginx_paths(folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in kinds)


def nginx_http(place: Place) -> Command:
    return nginx(place, f"""http {{
{nginx_paths(place.folder)}
    access_log {f"{place.folder}/access.log combined" if place.log else "off"};
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    upstream backend {{
        server {place.backend};
        keepalive 1024;
        keepalive_timeout 600s;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {place.frontend} ssl backlog=4096;
        client_max_body_size 0;
        {nginx_tls(place, "http")}
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
    }}
}}""")  # fmt: skip


def nginx_stream(place: Place) -> Command:
    module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
    return nginx(place, f"""stream {{
    server {{
        listen {place.frontend} ssl backlog=4096;
        proxy_pass {place.backend};
        proxy_timeout 1h;
        tcp_nodelay on;
        {nginx_tls(place, "stream")}
    }}
}}""", module)  # fmt: skip


def haproxy(place: Place, mode: str) -> Command:
    pem = place.write("site.pem", place.cert.read_text() + place.key.read_text())
    log = "log stdout len 4096 format raw local0" if place.log else ""
    lines = ["option forwardfor", "option http-keep-alive", "option http-ignore-probes"] if mode == "http" else []
    lines += ["log global", f"option {mode}log"] if place.log else []
    options = "\n    ".join(lines)
    text = f"""global
    nbthread 1
    maxconn 9000
    ssl-default-bind-ciphersuites {CIPHER}
    ssl-default-bind-options ssl-min-ver TLSv1.2
    {log}
defaults
    mode {mode}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    {options}
frontend tls
    bind {place.frontend} ssl crt {pem} backlog 4096
    default_backend plain
backend plain
    server one {place.backend}
"""
    return Command(["haproxy", "-db", "-f", place.write("haproxy.cfg", text)], stdout="access.log")


def hitch(place: Place) -> Command:
    pem = place.write("site.pem", place.key.read_text() + place.cert.read_text())
    host, _, port = place.backend.rpartition(":")
    user = 'user = "root"' if os.geteuid() == 0 else ""
    text = f"""frontend = {{ host = "127.0.0.1" port = "{place.port}" }}
backend = "[{host}]:{port}"
pem-file = "{pem}"
workers = 1
backlog = 4096
daemon = off
tls-protos = TLSv1.2 TLSv1.3
ciphersuites = "{CIPHER}"
log-level = 1
ocsp-dir = ""
{user}
"""
    return Command(["hitch", "--config", place.write("hitch.conf", text)])


def stunnel(place: Place) -> Command:
    text = f"""foreground = quiet
pid =
debug = emerg
output = {place.folder}/stunnel.log
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[tls]
accept = {place.frontend}
connect = {place.backend}
cert = {place.cert}
key = {place.key}
sslVersionMin = TLSv1.2
ciphersuites = {CIPHER}
options = -NO_TICKET
"""
    return Command(["stunnel", place.write("stunnel.conf", text)])


def caddy(place: Place) -> Command:
    log = (
        f"\tlog {{\n\t\toutput file {place.folder}/access.log {{\n\t\t\troll_disabled\n\t\t}}\n\t}}"
        if place.log
        else ""
    )
    text = f"""{{
	admin off
	auto_https off
	grace_period 1s
	servers {{
		protocols h1
	}}
}}
https://:{place.port} {{
	bind 127.0.0.1
	tls {place.cert} {place.key}
	reverse_proxy {place.backend} {{
		transport http {{
			keepalive_idle_conns_per_host 1024
			compression off
		}}
	}}
{log}
}}
"""
    env = {"GOMAXPROCS": "1", "HOME": str(place.folder), "XDG_DATA_HOME": str(place.folder)}
    return Command(["caddy", "run", "--adapter", "caddyfile", "--config", place.write("Caddyfile", text)], env)


def goproxy(place: Place) -> Command:
    arguments = [str(BUILT / "goproxy"), place.frontend, place.backend, str(place.cert), str(place.key)]
    return Command(arguments, {"GOMAXPROCS": "1"})


SSLTERM = (sys.executable, "-m", "sslterm")
COMPILED = {"PYTHONPATH": str(ROOT / ".cache" / "compiled")}
"""sslterm as it is in the image: its data plane compiled."""


def sslterm(place: Place, mode: str) -> Command:
    arguments = [
        *SSLTERM, "--mode", mode, "--cert", str(place.cert), "--key", str(place.key),
        "--frontend-addr", place.frontend, "--backend-addr", place.backend,
        "--access-log", "on" if place.log else "off", "--max-connections", "10000",
    ]  # fmt: skip
    if place.workers > 1:
        arguments += ["--workers", str(place.workers)]
    return Command(arguments, COMPILED, stdout="access.log")


def sslterm_has_workers() -> bool:
    return "--workers" in subprocess.run((*SSLTERM, "--help"), capture_output=True, text=True, check=True).stdout


PROXIES = (
    Proxy("sslterm http", "http", lambda place: sslterm(place, "http"), (sys.executable, "--version"), logs=True),
    Proxy("nginx http", "http", nginx_http, ("nginx", "-v"), logs=True),
    Proxy("HAProxy http", "http", lambda place: haproxy(place, "http"), ("haproxy", "-v"), logs=True),
    Proxy("Caddy", "http", caddy, ("caddy", "version"), logs=True),
    Proxy("Go proxy", "http", goproxy, ("go", "version")),
    Proxy("sslterm tcp", "tcp", lambda place: sslterm(place, "tcp"), (sys.executable, "--version")),
    Proxy("nginx stream", "tcp", nginx_stream, ("nginx", "-v")),
    Proxy("HAProxy tcp", "tcp", lambda place: haproxy(place, "tcp"), ("haproxy", "-v")),
    Proxy("hitch", "tcp", hitch, ("hitch", "--version")),
    Proxy("stunnel", "tcp", stunnel, ("stunnel", "-version")),
)


def versions() -> dict[str, str]:
    """What each program says that it is, in a line, and which OpenSSL sslterm runs on."""
    said = {}
    for proxy in PROXIES:
        done = subprocess.run(proxy.version, capture_output=True, text=True, check=False)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"\d\.\d", line)]
        said[proxy.name] = lines[0].strip() if lines else "?"
    said["OpenSSL of sslterm's Python"] = subprocess.run(
        (sys.executable, "-c", "import ssl; print(ssl.OPENSSL_VERSION)"), capture_output=True, text=True, check=True
    ).stdout.strip()
    return said
