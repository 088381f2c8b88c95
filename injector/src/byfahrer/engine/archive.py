"""
Files into and out of containers, as the tar archives that the engine's archive API speaks. Pure.

What comes out of a container is whatever its owner put there: of an archive, only so many bytes are looked at, and only
one plain file is taken from it.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from byfahrer.engine.errors import UnusableError
from byfahrer.model import File

_OVERHEAD = 64 * 1024
"""Bytes of an archive beside one file's content: its headers, extended ones too, and the padding at the end."""
_SYMLINK = 1 << 27
"""Of Go's fs.FileMode, in which the engine describes what a path is."""


def pack(files: Sequence[File]) -> bytes:
    """An archive of these, in this order: a folder before what is in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for each in files:
            entry = tarfile.TarInfo(each.path)
            entry.uid, entry.gid, entry.mode = each.uid, each.gid, each.mode
            if each.content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            else:
                entry.size = len(each.content)
                archive.addfile(entry, io.BytesIO(each.content))
    return packed.getvalue()


def unpack(path: str, chunks: Iterable[bytes], most: int) -> File:
    """The one plain file in an archive; UnusableError."""
    packed = io.BytesIO()
    for chunk in chunks:
        packed.write(chunk)
        if packed.tell() > most + _OVERHEAD:
            raise UnusableError(f"{path} has more than {most} bytes")
    packed.seek(0)
    try:
        with tarfile.open(fileobj=packed, mode="r:") as archive:
            entry = archive.next()
            if entry is None or entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.issparse():
                raise UnusableError(f"{path} is no plain file")
            content = archive.extractfile(entry)
            data = content.read(most + 1) if content else b""
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise UnusableError(f"{path} came as no archive: {error}") from error
    if len(data) > most:
        raise UnusableError(f"{path} has more than {most} bytes")
    if len(data) != entry.size:
        raise UnusableError(f"{path} came in part only")
    return File(path=path, content=data, uid=entry.uid, gid=entry.gid, mode=entry.mode & 0o7777)


def link_target(stat: Mapping[str, Any] | None) -> str | None:
    """Where a symbolic link leads, all others on the way followed; None if it is none."""
    found = stat or {}
    mode, target = found.get("mode"), found.get("linkTarget")
    if not isinstance(mode, int) or not mode & _SYMLINK or not isinstance(target, str) or not target:
        return None
    return posixpath.normpath(posixpath.join("/", target))
