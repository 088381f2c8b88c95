"""
What is read of a connection before its TLS session takes over: a PROXY header, or a look at the ClientHello, or both.

A connection has this stage only where something asks for it: a peer that must send a PROXY header, a backend that is
to get one with the name that the client asked for, or a name that is just being proved to an ACME server. All others go
straight to TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sslterm.protocol import hello, proxy

if TYPE_CHECKING:
    from sslterm.protocol.proxy import Caller

ACME_ALPN: Final = "acme-tls/1"
"""RFC 8737, section 6.2."""


class Preface:
    """The first bytes of one connection, until it is known who calls and what for."""

    __slots__ = ("_data", "_headed", "_hello", "caller", "probes", "server_name")

    def __init__(self, caller: Caller, *, headed: bool, hello: bool) -> None:
        """`caller`: the real ends of the connection. `headed`: a PROXY header comes first. `hello`: look at that."""
        self._data = b""
        self._headed = headed
        self._hello = hello
        self.caller = caller
        """Who calls; as the header says, if there is one."""
        self.probes = False
        """This client offers what only an ACME server does that proves a name (tls-alpn-01)."""
        self.server_name = ""
        """The name that it asked for, if it did."""

    def feed(self, data: bytes) -> bool:
        """Take what came; True once TLS may go on with what is left, in `take_into`. Raises ProxyError."""
        self._data += data
        if self._headed:
            header = proxy.read(self._data)
            if header is None:
                return False
            self._headed = False
            self.caller = header.caller or self.caller
            self._data = self._data[header.size :]
        if self._hello:
            asked = hello.read(self._data)
            if asked is None:
                return False
            self.probes = ACME_ALPN.encode() in asked.protocols
            self.server_name = asked.server_name
        return True

    def take_into(self, buffer: bytearray) -> int:
        """As a socket's `recv_into`: what is left, once."""
        count = len(self._data)
        if not count:
            raise BlockingIOError
        buffer[:count] = self._data
        self._data = b""
        return count
