"""
What is read of a connection before its TLS session takes over: a PROXY header, or a look at the ClientHello, or both.

A connection has this stage only where something asks for it: a peer that must send a PROXY header, or a name that is
just being proved to an ACME server. All others go straight to TLS.
"""

from __future__ import annotations

from typing import Final

from sslterm.protocol import hello, proxy

ACME_ALPN: Final = "acme-tls/1"
"""RFC 8737, section 6.2."""


class Preface:
    """The first bytes of one connection, until it is known who calls and what for."""

    __slots__ = ("_data", "_headed", "_probing", "caller", "probes")

    def __init__(self, *, headed: bool, probing: bool) -> None:
        """`headed`: a PROXY header comes first. `probing`: an ACME server may be the one who calls."""
        self._data = b""
        self._headed = headed
        self._probing = probing
        self.caller: proxy.Caller | None = None
        """Who is said to call; None if nobody says so."""
        self.probes = False
        """An ACME server proves a name (tls-alpn-01)."""

    def feed(self, data: bytes) -> bool:
        """Take what came; True once TLS may go on with what is left, in `take_into`. Raises ProxyError."""
        self._data += data
        if self._headed:
            header = proxy.read(self._data)
            if header is None:
                return False
            self._headed = False
            self.caller = header.caller
            self._data = self._data[header.size :]
        if self._probing:
            offered = hello.offers(self._data, ACME_ALPN.encode())
            if offered is None:
                return False
            self.probes = offered
        return True

    def take_into(self, buffer: bytearray) -> int:
        """As a socket's `recv_into`: what is left, once."""
        count = len(self._data)
        if not count:
            raise BlockingIOError
        buffer[:count] = self._data
        self._data = b""
        return count
