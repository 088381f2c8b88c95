"""
Keys for session tickets that several processes share, so that a client resumes on whichever it comes to.

OpenSSL makes keys of its own for each context, and Python has no call to set them. OpenSSL's is used on the context
inside Python's: its pointer is the first field after the object's head, in every CPython so far. Whether that still
holds is proved before anything is written, by asking through it for something that is known. `ctypes` is loaded only
where there are several processes, at the first call.
"""

from __future__ import annotations

import ssl
from typing import Final

ROTATION: Final = 12 * 3600.0
"""
Seconds for which a set of keys is used, at most.

A ticket itself is good for two hours (OpenSSL's default, 7200 s), but each resumption brings a new one: this is what
ends a session for good, and the time for which a key that was stolen opens what was recorded (TLS 1.2).
"""
SIZE: Final = 80
"""Bytes: a name of 16, a key for HMAC-SHA256 and one for AES-256 (OpenSSL since 1.1.0)."""
_SET_TICKET_KEYS: Final = 59
"""SSL_CTRL_SET_TLSEXT_TICKET_KEYS (openssl/ssl.h)."""
_HEAD: Final = object.__basicsize__
"""Bytes of an object's head: reference count and type."""


def share(context: ssl.SSLContext, keys: bytes) -> bool:
    """Have `context` use `keys`, of `SIZE` bytes, for its tickets; False, and nothing done, where that cannot be."""
    try:
        import ctypes

        # The library is the one that `_ssl` is linked with, or, where that is no file of its own, this program. The
        # module is private and unknown to typeshed, and the only one that says which libssl this interpreter uses.
        library = ctypes.CDLL(getattr(ssl._ssl, "__file__", None))  # type: ignore[attr-defined]  # noqa: SLF001
        options, control = library.SSL_CTX_get_options, library.SSL_CTX_ctrl
    except (AttributeError, ImportError, OSError):
        return False
    options.restype, options.argtypes = ctypes.c_uint64, [ctypes.c_void_p]
    control.restype, control.argtypes = ctypes.c_long, [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
    pointer = ctypes.c_void_p.from_address(id(context) + _HEAD)
    if pointer.value is None or options(pointer) != context.options & (1 << 64) - 1:
        return False
    return bool(control(pointer, _SET_TICKET_KEYS, len(keys), keys) == 1)
