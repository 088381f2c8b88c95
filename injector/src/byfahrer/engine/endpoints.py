"""
Every request that byfahrer makes of an engine, as data: what a filter before the engine's socket has to let through.

The configurations in deploy/ and the table in docs/privileges.md are written from it (tools/socket_proxy.py), and the
tests fail where the adapter asks for more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

VERSION: Final = r"/v1\.[0-9]+"
"""The API's version in front of a path; the very first request has none, since it asks for it."""

_PATTERNS: Final = {
    # No percent sign: what a filter does not decode and the engine does, must not get past the filter.
    "{container}": "[A-Za-z0-9][A-Za-z0-9_.-]*",
    "{service}": "[a-z0-9]+",
    # With a registry, its port, a tag, and a digest; %40 is the @ before that.
    "{image}": "[A-Za-z0-9][A-Za-z0-9_.:-]*(/[A-Za-z0-9][A-Za-z0-9_.:-]*)*(%40sha256:[0-9a-f]+)?",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of them."""

    method: str
    path: str
    """Without the API's version; `{…}` stands for a name or an ID."""
    purpose: str
    observe: bool = False
    """Whether `run --observe`, `run --dry-run`, `ps`, `doctor` and `render` need it too."""

    @property
    def pattern(self) -> str:
        """A regular expression for the whole path, as Python and PCRE read it."""
        parts = re.split(r"(\{\w+\})", self.path)
        return f"^({VERSION})?{''.join(_PATTERNS.get(part) or re.escape(part) for part in parts)}$"

    def matches(self, method: str, path: str) -> bool:
        return method == self.method and re.match(self.pattern, path) is not None


ENDPOINTS: Final = (
    Endpoint("GET", "/version", "which version of the API the engine speaks", observe=True),
    Endpoint("GET", "/info", "who the engine is, its clock, its role in a Swarm", observe=True),
    Endpoint("GET", "/_ping", "notice an engine that hangs", observe=True),
    Endpoint("GET", "/events", "hear of what happens", observe=True),
    Endpoint("GET", "/containers/json", "list the containers, after each loss and every 30 seconds", observe=True),
    Endpoint("GET", "/containers/{container}/json", "look at a target or a sidecar", observe=True),
    Endpoint("GET", "/containers/{container}/logs", "last words of a sidecar that exited", observe=True),
    Endpoint("GET", "/images/{image}/json", "an image's ID, and which labels came with it", observe=True),
    Endpoint(
        "GET",
        "/services",
        "labels, virtual addresses and names of secrets of Swarm services, on a manager",
        observe=True,
    ),
    Endpoint("GET", "/services/{service}", "the same of one task's service", observe=True),
    Endpoint("POST", "/images/create", "`--pull`: get an image"),
    Endpoint("POST", "/containers/create", "make a sidecar"),
    Endpoint("PUT", "/containers/{container}/archive", "a sidecar's token; `byfahrer trust`"),
    Endpoint("GET", "/containers/{container}/archive", "`byfahrer trust`: the store that is there"),
    Endpoint("POST", "/containers/{container}/start", "start a sidecar"),
    Endpoint("POST", "/containers/{container}/restart", "move a sidecar to its target's new namespace"),
    Endpoint("POST", "/containers/{container}/kill", "tell a sidecar that its target stops, or to drain and end"),
    Endpoint("POST", "/containers/{container}/rename", "give a sidecar the name that its target has now"),
    Endpoint("POST", "/containers/{container}/stop", "`byfahrer eject`: let a sidecar finish its requests"),
    Endpoint("DELETE", "/containers/{container}", "remove a sidecar"),
)


def allowed(method: str, path: str, *, observe: bool = False) -> bool:
    """Whether a request is one of ours; `observe`: of those that change nothing."""
    return any(each.matches(method, path) for each in ENDPOINTS if each.observe or not observe)
