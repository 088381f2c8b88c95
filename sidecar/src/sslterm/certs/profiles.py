"""
Mozilla's TLS profiles as data: what each allows, in the spelling of OpenSSL.

From the Server Side TLS guidelines, version 5.7 of May 2023: https://ssl-config.mozilla.org/guidelines/5.7.json

One thing is added: the key exchange X25519MLKEM768, for OpenSSL 3.5 and later. It is what version 5.8 adds to both
profiles, and it changes nothing for who does not know it. Versions and ciphers are set by `context.py`; the groups, for
which Python has no call, by `openssl.cnf`, which a test holds against this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sslterm.settings import TlsProfile


@dataclass(frozen=True, slots=True)
class Profile:
    """What a server with this profile offers."""

    versions: tuple[str, ...]
    """Of TLS, the lowest first, as `ssl.TLSVersion` calls them."""
    ciphers: tuple[str, ...]
    """For TLS 1.2."""
    ciphersuites: tuple[str, ...]
    """For TLS 1.3; they are also OpenSSL's default, and Python has no call to set others."""
    groups: tuple[str, ...]
    """For the key exchange."""


_CIPHERSUITES: Final = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_GROUPS: Final = ("X25519", "P-256", "P-384")

HYBRID: Final = "X25519MLKEM768"
"""Goes before the groups of each profile, where OpenSSL has it."""

PROFILES: Final = {
    TlsProfile.INTERMEDIATE: Profile(
        versions=("TLSv1_2", "TLSv1_3"),
        ciphers=(
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-CHACHA20-POLY1305",
            # The last three are never negotiated, because no Diffie-Hellman parameters are loaded.
            "DHE-RSA-AES128-GCM-SHA256",
            "DHE-RSA-AES256-GCM-SHA384",
            "DHE-RSA-CHACHA20-POLY1305",
        ),
        ciphersuites=_CIPHERSUITES,
        groups=_GROUPS,
    ),
    TlsProfile.MODERN: Profile(versions=("TLSv1_3",), ciphers=(), ciphersuites=_CIPHERSUITES, groups=_GROUPS),
}
