"""
Hearing that a listener is closed, at the moment when it is: the kernel tells who has subscribed (sock_diag(7)).

It tells of every TCP socket that goes in this network namespace, connections too, which costs it some 2 µs each; a
filter lets through only what matters here. No capability is needed. Where the kernel has no such thing, or it is
forbidden, making one raises OSError, and looking now and then has to do.
"""

from __future__ import annotations

import socket
import struct
from array import array
from contextlib import suppress
from typing import Final

import anyio

_NETLINK_SOCK_DIAG: Final = 4
_GROUPS: Final = 1 << 0 | 1 << 2
"""SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY (linux/sock_diag.h)."""
_ATTACH_FILTER: Final = 26
"""SO_ATTACH_FILTER (asm-generic/socket.h), for which `socket` has no name."""
_LOAD: Final = 0x28
"""BPF_LD | BPF_H | BPF_ABS (linux/bpf_common.h): two bytes, as a number in network order."""
_UNLESS: Final = 0x15
"""BPF_JMP | BPF_JEQ | BPF_K: how many instructions to skip if equal, and if not."""
_ANSWER: Final = 0x06
"""BPF_RET | BPF_K."""
_LOCAL_PORT: Final = 20
_PEERS_PORT: Final = 22
"""Where they are in a message: after its head of 16 bytes and the first four of struct inet_diag_msg."""
_LARGEST: Final = 4096


class Closings:
    """Of listeners on `port`. Raises OSError."""

    def __init__(self, port: int) -> None:
        program = (
            (_LOAD, 0, 0, _PEERS_PORT), (_UNLESS, 0, 3, 0), (_LOAD, 0, 0, _LOCAL_PORT), (_UNLESS, 0, 1, port),
            (_ANSWER, 0, 0, _LARGEST), (_ANSWER, 0, 0, 0),
        )  # fmt: skip
        code = array("B", b"".join(struct.pack("=HBBI", *each) for each in program))
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        try:
            self._socket.setblocking(False)
            where = struct.pack("@HP", len(program), code.buffer_info()[0])
            self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, where)
            self._socket.bind((0, _GROUPS))
        except OSError:
            self._socket.close()
            raise

    async def heard(self) -> None:
        """Wait for the next; several at a time are one."""
        await anyio.wait_readable(self._socket)
        with suppress(OSError):  # there is no more, or there was too much
            while self._socket.recv(_LARGEST):
                pass

    def close(self) -> None:
        """Subscribe no more."""
        self._socket.close()
