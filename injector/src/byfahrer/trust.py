"""
`byfahrer trust`: the authority's roots in a container's system store, where its programs look for them.

There is no one such place: most read a file with every root, of which each family of distributions has its own; OpenSSL
on Debian reads a folder, in which files are found by a hash. And whatever is written there is lost at the next run of
`update-ca-certificates`, unless the root lies among its sources too.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from byfahrer.authority.ca import FILE, OwnRoot, SharedRoot
from byfahrer.authority.state import StateFolder
from byfahrer.engine.errors import NotFoundError
from byfahrer.engine.interface import Engine
from byfahrer.model import Container, File

MOST = 4 * 1024**2
"""Bytes of a store; Mozilla's whole list has a quarter of a megabyte."""
MOST_ALIKE = 10
"""Files of one hash: `HASH.0` to `HASH.9`."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_DEBIAN = "/usr/local/share/ca-certificates"
_HASHED = "/etc/ssl/certs"


@dataclass(frozen=True, slots=True)
class _Store:
    """Where one family of distributions keeps the roots that it believes."""

    bundle: str
    sources: str
    """The folder from which the bundle is made anew."""


STORES = (
    _Store("/etc/ssl/certs/ca-certificates.crt", _DEBIAN),  # Debian, Ubuntu, Alpine, Arch
    _Store("/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/source/anchors"),  # Fedora and RHEL
    _Store("/etc/ssl/ca-bundle.pem", "/etc/pki/trust/anchors"),  # SUSE
    _Store("/etc/ssl/cert.pem", _DEBIAN),  # Alpine and BSD, where nothing else is there
)


class TrustError(Exception):
    """The roots cannot be put there; `str()` is one line."""


def roots(state_dir: Path, ca_cert: str, ca_file: str = "") -> bytes:
    """
    What is to be believed, in PEM: the roots of our own or of a Swarm, or the one at the end of the chain that was
    brought.
    """
    if ca_file:
        return SharedRoot(Path(ca_file)).issuer().authorities.encode()
    if ca_cert:
        try:
            found = x509.load_pem_x509_certificates(Path(ca_cert).read_bytes())
        except (OSError, ValueError) as error:
            raise TrustError(f"--ca-cert {ca_cert}: {getattr(error, 'strerror', None) or 'expected PEM'}") from None
        return found[-1].public_bytes(Encoding.PEM)
    folder = StateFolder(state_dir)
    if folder.read(FILE) is None:
        raise TrustError(
            f"there is no root in {state_dir}: run this where byfahrer runs (docker exec byfahrer byfahrer trust NAME)"
        )
    return OwnRoot(folder).issuer().authorities.encode()


async def trust(engine: Engine, target: Container, roots: bytes) -> list[str]:
    """Have `target` believe these roots (PEM); the files that were written, none if it did already."""
    if "a writable root" not in target.freedoms:
        raise TrustError(
            f"'{target.name}' has a read-only root: mount the file that `byfahrer ca root` prints, or build it into "
            "the image"
        )
    found = x509.load_pem_x509_certificates(roots)
    stores: dict[str, tuple[File, _Store]] = {}
    for store in STORES:
        file = await engine.read_file(target.id, store.bundle, MOST)
        if file is not None:
            stores.setdefault(file.path, (file, store))
    if not stores:
        raise TrustError(
            f"'{target.name}' has no system store ({', '.join(store.bundle for store in STORES)}): "
            "install ca-certificates in it first"
        )
    written: list[str] = []
    for file, store in stores.values():
        content = file.content or b""
        missing = [pem for pem in _blocks(roots) if not _bodies(pem) <= _bodies(content)]
        if missing:
            whole = b"\n".join([content.rstrip(b"\n"), *missing]).lstrip(b"\n")
            written.append(await _write(engine, target, replace(file, content=whole)))
        for number, pem in enumerate(_blocks(roots), 1):
            name = "byfahrer.crt" if number == 1 else f"byfahrer-{number}.crt"
            written += await _have(engine, target, posixpath.join(store.sources, name), pem)
    if STORES[0] in [store for _, store in stores.values()]:
        for certificate, pem in zip(found, _blocks(roots), strict=True):
            written += await _have_hashed(engine, target, subject_hash(certificate.subject), pem)
    return list(dict.fromkeys(written))


def subject_hash(name: x509.Name) -> str:
    """As `openssl x509 -subject_hash`: of the name in lower case and UTF-8, with single spaces."""
    canonical = b""
    for rdn in name.rdns:
        attributes = sorted(
            _der(0x30, _oid(each.oid.dotted_string) + _der(0x0C, _canonical(str(each.value)))) for each in rdn
        )
        canonical += _der(0x31, b"".join(attributes))
    digest = hashlib.sha1(canonical).digest()  # noqa: S324 - OpenSSL's choice, and no secret
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


async def _have(engine: Engine, target: Container, path: str, pem: bytes) -> list[str]:
    """`path` with exactly this root; the file, if it was not so before."""
    there = await engine.read_file(target.id, path, MOST)
    if there is not None and there.content == pem:
        return []
    return [await _write(engine, target, File(path=there.path if there else path, content=pem))]


async def _have_hashed(engine: Engine, target: Container, digest: str, pem: bytes) -> list[str]:
    for number in range(MOST_ALIKE):
        path = posixpath.join(_HASHED, f"{digest}.{number}")
        there = await engine.read_file(target.id, path, MOST)
        if there is None:
            return [await _write(engine, target, File(path=path, content=pem))]
        if _bodies(pem) <= _bodies(there.content or b""):
            return []
    return []


async def _write(engine: Engine, target: Container, file: File) -> str:
    folder, name = posixpath.split(file.path)
    try:
        await engine.put_files(target.id, folder, [replace(file, path=name)])
    except NotFoundError:  # no such folder: the engine makes those that an archive implies
        await engine.put_files(target.id, "/", [replace(file, path=file.path.lstrip("/"))])
    return file.path


def _blocks(pem: bytes) -> list[bytes]:
    """Each certificate by itself."""
    return [_BEGIN + each + _END + b"\n" for each in _between(pem)]


def _bodies(pem: bytes) -> set[bytes]:
    """What the certificates are, however their lines are broken."""
    return {b"".join(each.split()) for each in _between(pem)}


def _between(pem: bytes) -> Iterator[bytes]:
    """What is in each block, in time that goes with the size of a file which is the container's."""
    at = 0
    while (begin := pem.find(_BEGIN, at)) >= 0 and (end := pem.find(_END, begin)) >= 0:
        yield pem[begin + len(_BEGIN) : end]
        at = end + len(_END)


def _canonical(text: str) -> bytes:
    # Only ASCII changes its case there.
    folded = " ".join(text.split())
    return "".join(c.lower() if c.isascii() else c for c in folded).encode()


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = b""
    for arc in (40 * first + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.insert(0, arc & 0x7F | 0x80)
        body += bytes(septets)
    return _der(0x06, body)


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body
