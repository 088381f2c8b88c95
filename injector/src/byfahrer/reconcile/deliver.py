"""
What a sidecar finds in its volumes when it starts: its token, and a folder that it may write in. Pure.

A new volume belongs to root, and so does its uppermost folder for good: the engine leaves the folder that an archive is
unpacked into as it is. So what a sidecar is to own lies within.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from byfahrer.model import File, Mount
from byfahrer.spec import ACME_AT, ACME_FOLDER, PRIVATE_AT, TOKEN_AT

_NUMBERS = re.compile(r"(\d{1,10})(?::(\d{1,10}))?")


def wants_token(mounts: Iterable[Mount]) -> bool:
    return PRIVATE_AT in _writable(mounts)


def files(mounts: Iterable[Mount], user: str, token: str | None) -> Iterator[tuple[str, File]]:
    """Folders and what is put into them, for a sidecar with these mounts that runs as `user`."""
    volumes = _writable(mounts)
    numbers = _NUMBERS.fullmatch(user)
    uid, gid = (int(numbers[1]), int(numbers[2] or 0)) if numbers else (0, 0)
    # The number behind a name is known in the sidecar only; but nobody else has these volumes.
    if token is not None and PRIVATE_AT in volumes:
        name = posixpath.basename(TOKEN_AT)
        yield PRIVATE_AT, File(path=name, content=token.encode(), uid=uid, gid=gid, mode=0o400 if numbers else 0o444)
    if ACME_AT in volumes:
        yield ACME_AT, File(path=ACME_FOLDER, content=None, uid=uid, gid=gid, mode=0o700 if numbers else 0o777)


def _writable(mounts: Iterable[Mount]) -> set[str]:
    return {mount.destination for mount in mounts if mount.kind == "volume" and mount.writable}
