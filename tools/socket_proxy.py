"""Writes what follows from the list of endpoints: deploy/socket-proxy*.cfg, and the table in docs/privileges.md."""

from __future__ import annotations

import re
from pathlib import Path

from byfahrer.engine.endpoints import ENDPOINTS, Endpoint

ROOT = Path(__file__).parents[1]
FULL = ROOT / "deploy" / "socket-proxy.cfg"
OBSERVE = ROOT / "deploy" / "socket-proxy-observe.cfg"
PAGE = ROOT / "docs" / "privileges.md"
TABLE = re.compile(r"(<!-- endpoints: begin -->\n).*?(<!-- endpoints: end -->)", re.DOTALL)

CONFIGURATION = """\
# HAProxy before the engine's socket: only the requests listed below get through{what}.
# Written from injector/src/byfahrer/engine/endpoints.py by tools/socket_proxy.py. How to use it: docs/privileges.md
#
#   ENGINE_SOCKET  the engine's own socket    [default: /var/run/docker.sock]
#   PROXY_SOCKET   the one that byfahrer uses [default: /run/byfahrer-engine/docker.sock]
global
    log stdout format raw daemon
    maxconn 500

defaults
    mode http
    log global
    # What was refused, or went wrong: nothing else.
    log-format "%ST %HM %HP"
    option dontlog-normal
    # An event stream whose reader is gone must not stay open on the engine.
    option abortonclose
    timeout connect 5s
    timeout http-request 10s
    # As long as a pull may be silent, and a container take to stop.
    timeout server 10m
    # Of a client that waits for events: it sends nothing, perhaps for days.
    timeout client 7d

frontend byfahrer
    bind "unix@${{PROXY_SOCKET-/run/byfahrer-engine/docker.sock}}" mode 660
    # The path as it came, undecoded: what has an escape in it, other than the @ of a digest, is in no pattern.
{rules}
    http-request deny deny_status 403 unless {names}
    # Past a change of the protocol (h2c, a hijacked stream) nobody would look at requests any more.
    http-request deny deny_status 403 if {{ req.hdr(Upgrade) -m found }}
    use_backend events if {events}
    default_backend engine

backend engine
    # None is kept open when nobody uses it.
    server engine "unix@${{ENGINE_SOCKET-/var/run/docker.sock}}" pool-max-conn 0

backend events
    timeout server 7d
    server engine "unix@${{ENGINE_SOCKET-/var/run/docker.sock}}" pool-max-conn 0
"""


def configuration(*, observe: bool) -> str:
    """The filter that lets every endpoint through, or those that change nothing."""
    chosen = [each for each in ENDPOINTS if each.observe or not observe]
    methods = list(dict.fromkeys(each.method for each in chosen))
    rules, names = [], []
    for method in methods:
        rules.append(f"    acl {method} method {method}")
        rules += [f"    acl {method}_path path_reg {_quoted(each)}" for each in chosen if each.method == method]
        names.append(f"{method} {method}_path")
    events = next(each for each in chosen if each.path == "/events")
    return CONFIGURATION.format(
        what=", and none of them changes anything" if observe else "",
        rules="\n".join(rules),
        names=" || ".join(names),
        events=f"{{ path_reg {_quoted(events)} }}",
    )


def _quoted(endpoint: Endpoint) -> str:
    """In single quotes nothing has a meaning of its own to HAProxy."""
    return f"'{endpoint.pattern}'"


def table() -> str:
    """The list, for people."""
    rows = ["| request | what for | `--observe` |", "| --- | --- | --- |"]
    rows += [f"| `{e.method} {e.path}` | {e.purpose} | {'yes' if e.observe else ''} |" for e in ENDPOINTS]
    return "\n".join(rows) + "\n"


def page(text: str) -> str:
    """A page with the table of today in it."""
    return TABLE.sub(lambda found: f"{found[1]}{table()}{found[2]}", text)


def main() -> None:
    FULL.write_text(configuration(observe=False))
    OBSERVE.write_text(configuration(observe=True))
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
