"""
A target's own certificate from Swarm secrets: which file of the engine's a label means. Pure.

Secrets are in a file system in memory that the engine makes for each container of a service, beside its other files.
Only from there can a sidecar, which is no part of the service, have one too (moby, `container.SecretFilePath`:
`<container>/mounts/secrets/<secret's ID>`). Which secrets the service has, its managers know.
"""

from __future__ import annotations

import posixpath
import re
from typing import Final

from byfahrer.labels import CERT, KEY, SWARM_SERVICE, Annotation, Annotations
from byfahrer.model import Container, Mount, Service, one_line

AT: Final = "/run/target-secrets"
"""Where a sidecar has them."""
SCHEME: Final = "secret:"
ACCEPTS: Final = "secret:NAME, a Swarm secret that its service has"
_ID: Final = re.compile(r"[a-z0-9]{25}", re.ASCII)
_MOST_SHOWN: Final = 5


def certificate(found: Annotations, target: Container, service: Service) -> tuple[dict[str, str], tuple[Mount, ...]]:
    """
    The settings `cert` and `key`, and the mounts that they need; nothing where no label asks. LabelError.

    One secret may hold both, the key and the chain in PEM: then `key` says nothing.
    """
    if CERT not in found:
        if KEY in found:
            raise found[KEY].error("byfahrer.cert beside it")
        return {}, ()
    chain = _mount(found[CERT], target, service, f"{AT}/cert.pem")
    if KEY not in found:
        return {CERT: chain.destination, KEY: chain.destination}, (chain,)
    key = _mount(found[KEY], target, service, f"{AT}/key.pem")
    return {CERT: chain.destination, KEY: key.destination}, (chain, key)


def _mount(wanted: Annotation, target: Container, service: Service, at: str) -> Mount:
    scheme, name = wanted.value[: len(SCHEME)], wanted.value[len(SCHEME) :].strip()
    if scheme != SCHEME or not name:
        raise wanted.error(ACCEPTS)
    if SWARM_SERVICE not in target.labels or SWARM_SERVICE in target.inherited:
        raise wanted.error("a Swarm service: a container by itself has no secrets")
    if name not in service.secrets:
        has = ", ".join(one_line(each, 100) for each in sorted(service.secrets)[:_MOST_SHOWN])
        raise wanted.error(f"a secret of its service, which has: {has or 'none, as far as a manager has told'}")
    if not target.folder or not _ID.fullmatch(service.secrets[name]):
        raise wanted.error("an engine that says where it keeps a container's secrets; this one does not")
    source = posixpath.join(target.folder, "mounts", "secrets", service.secrets[name])
    return Mount(kind="bind", source=source, destination=at)
