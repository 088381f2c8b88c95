"""
Memory that many connections needed, back to the machine once they are gone.

The C library keeps what OpenSSL frees: its chunks lie between those of others, so that the heap cannot shrink by itself
(after 8,000 idle connections it kept 120 MB for good). A sidecar shares its memory limit with the target, so this is
not its to keep.
"""

from __future__ import annotations

from contextlib import suppress


def give_back() -> None:
    """Return free pages to the kernel; 1 ms for 10 MB. Does nothing where the C library cannot (musl)."""
    with suppress(ImportError, OSError, MemoryError):  # out of descriptors or memory: then not
        import ctypes  # here, because most sidecars never have that many connections

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
