"""
The tokens by which a sidecar proves whose sidecar it is: made at injection, and remembered by nobody.

A token is `v1.<target ID>.<sidecar ID>.<HMAC-SHA256 of all before it>`. What it says is true for ever; whether it still
counts is decided by what the engine says of both containers, so that a token dies with either of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

from byfahrer.authority.errors import StateError
from byfahrer.authority.state import StateFolder

FILE: Final = "token.key"
_TOKEN: Final = re.compile(r"v1\.([0-9a-f]{64})\.([0-9a-f]{64})\.([0-9a-f]{64})", re.ASCII)
_KEY: Final = re.compile(r"([0-9a-f]{64})\n", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who a token was made for."""

    target_id: str
    sidecar_id: str


class Tokens:
    """Makes and reads tokens with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def load(cls, folder: StateFolder) -> Tokens:
        """With the key in the state folder, which is made the first time. StateError."""
        with folder.locked():
            text = folder.read(FILE)
            if text is None:
                text = f"{secrets.token_hex(32)}\n".encode()
                folder.write(FILE, text)
        found = _KEY.fullmatch(text.decode("ascii", "replace"))
        if found is None:
            raise StateError(
                f"{folder.path / FILE}: expected 64 hexadecimal digits; if it is lost, remove it and byfahrer makes "
                "another (sidecars must then be made anew: byfahrer eject --all)"
            )
        return cls(bytes.fromhex(found[1]))

    def make(self, target_id: str, sidecar_id: str) -> str:
        """The token of this sidecar for this target; both by their full IDs."""
        told = f"v1.{target_id}.{sidecar_id}"
        return f"{told}.{self._sign(told)}"

    def read(self, text: str) -> Bearer | None:
        """Who `text` was made for; None if it is no token of ours."""
        found = _TOKEN.fullmatch(text)
        if found is None or not hmac.compare_digest(self._sign(text[: found.start(3) - 1]), found[3]):
            return None
        return Bearer(found[1], found[2])

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode("ascii"), hashlib.sha256).hexdigest()
