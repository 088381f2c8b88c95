"""
Which images may run as sidecars: patterns over repositories. Pure.

A label on an image can ask for a sidecar too, so what may run is the operator's decision alone. Names are compared in
the form the engine resolves them to (`sslterm` is `docker.io/library/sslterm`), and `*` stays within one path segment:
`sslterm*` matches neither `sslterm.example.com/x` nor `example.com/sslterm`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
# distribution/reference, without IPv6 registries and digests other than the one in use.
_IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
_LONGEST = 512
"""Characters: 255 of a repository, and its tag and digest."""


def is_image(text: str) -> bool:
    """Whether the engine could know an image by this name."""
    return len(text) <= _LONGEST and _IMAGE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name, taken apart as the engine does it."""

    repository: str
    """With its registry: `docker.io/library/sslterm`."""
    tag: str
    """Empty if none was written."""
    digest: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Total: nonsense gives a reference that is no image's."""
        name, _, digest = text.partition("@")
        head, slash, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        name = f"{head}{slash}{last}"
        first, slash, rest = name.partition("/")
        # distribution/reference: the first part is a registry if it could be no user's name.
        if slash and (any(c in first for c in ".:") or first == "localhost" or first != first.lower()):
            registry, path = first, rest
        else:
            registry, path = "docker.io", name
        if registry in ("docker.io", "index.docker.io"):
            registry, path = "docker.io", path if "/" in path else f"library/{path}"
        return cls(f"{registry}/{path}", tag, digest)


@dataclass(frozen=True, slots=True)
class ImagePattern:
    """One entry of `--allow-image`. A tag or digest is compared only where the pattern has one."""

    text: str

    def allows(self, image: str) -> bool:
        # An ID is no name: behind it may be any image.
        if not is_image(image) or _ID.fullmatch(image):
            return False
        pattern, reference = Reference.parse(self.text), Reference.parse(image)
        if pattern.digest and pattern.digest != reference.digest:
            return False
        if pattern.tag and not _matches(pattern.tag, reference.tag or ("" if reference.digest else "latest")):
            return False
        return _matches(pattern.repository, reference.repository)

    def __str__(self) -> str:
        return self.text


def _matches(pattern: str, text: str) -> bool:
    # What a name's segment may be made of; the engine refuses all else anyway.
    return re.fullmatch("[A-Za-z0-9_.-]*".join(re.escape(part) for part in pattern.split("*")), text) is not None
