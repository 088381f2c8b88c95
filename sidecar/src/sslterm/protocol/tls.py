"""
One TLS session over two memory buffers: ciphertext in, plaintext out, and the other way round. Server or client.

Owns the state of the session: handshake, open, half-closed each way, closed. A plain `ssl.SSLObject` does half-close on
TLS 1.2 and 1.3: `unwrap()` emits close_notify and `read()` still returns what the peer goes on to send. An end without
close_notify is an error (`TlsTruncatedError`), because an attacker on the path can end a TCP stream, but cannot forge a
close_notify (RFC 8446, section 6.1).
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final

RECORD: Final = 16384
"""Most plaintext bytes in one TLS record (RFC 8446, section 5.1): the least room that `TlsSession.read_into` needs."""


class TlsError(Exception):
    """The peer's TLS is at fault; `str()` is OpenSSL's reason in words, for the log."""


class TlsTruncatedError(TlsError):
    """The peer's TCP stream ended without a close_notify."""


class CertificateError(TlsError):
    """The peer's certificate is missing, or OpenSSL does not accept it: its chain, dates or use, or a server's name."""

    def __init__(self, why: str, *, missing: bool, expired: bool) -> None:
        super().__init__(why)
        self.missing = missing
        self.expired = expired


class PlainHttpError(TlsError):
    """The peer speaks HTTP without TLS: worth an answer that it can read."""


_EXPIRED: Final = 10
"""X509_V_ERR_CERT_HAS_EXPIRED (openssl/x509_vfy.h)."""


def _cut(error: ssl.SSLError) -> bool:
    """Whether the stream ended without close_notify. Python 3.11.2 has no class for that in every case."""
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")


def _refused(error: ssl.SSLError) -> TlsError:
    """Why the handshake failed: with OpenSSL's own words for what is wrong with a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"{_reason(error)}: {error.verify_message}"
        return CertificateError(why, missing=False, expired=error.verify_code == _EXPIRED)
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return CertificateError("the client showed no certificate", missing=True, expired=False)
    return TlsError(_reason(error))


class TlsSession:
    """One end of a TLS connection."""

    __slots__ = ("_read", "_session", "_write", "ended", "feed", "incoming", "open", "outgoing", "take", "write_closed")

    def __init__(self, context: ssl.SSLContext, server: str | None = None) -> None:
        """`server`: for a client's end, whom to ask for (SNI) and whose certificate to accept: a name or an address."""
        self.incoming = ssl.MemoryBIO()
        """`pending`: bytes of ciphertext that the last `read_into` left there, a record in part or for want of room."""
        self.outgoing = ssl.MemoryBIO()
        """`pending`: bytes of ciphertext that wait in `take()`."""
        self._session = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server is None, server_hostname=server
        )
        # The calls of every turn, looked up once, and those to OpenSSL without the wrapper that only forwards them:
        # `_sslobj` is private, but has been what `SSLObject` forwards to since Python 3.6.
        direct: Any = self._session._sslobj  # type: ignore[attr-defined]  # noqa: SLF001
        self._read: Callable[[int, memoryview], int] = direct.read
        self._write: Callable[[bytes | memoryview], int] = direct.write
        self.feed: Callable[[memoryview], int] = self.incoming.write
        """Take ciphertext that arrived."""
        self.take: Callable[[], bytes] = self.outgoing.read
        """Ciphertext to send, all of it."""
        self.open = False
        """The handshake is done."""
        self.ended = False
        """The peer sent close_notify: there is nothing more to read."""
        self.write_closed = False
        """We sent close_notify: there is nothing more to write."""

    def feed_eof(self) -> None:
        """The TCP stream ended: what is still buffered can be read, then `TlsTruncatedError` but for close_notify."""
        self.incoming.write_eof()

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Raises TlsError; an alert may then be in `take()`."""
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            if _cut(error):
                raise TlsTruncatedError("connection closed during the handshake") from None
            if error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
                raise PlainHttpError("the client speaks plain HTTP") from None
            raise _refused(error) from None
        self.open = True
        return True

    def read_into(self, buffer: memoryview) -> int:
        """
        Decrypt into `buffer` as many records as are there and fit; the number of bytes, which may be 0.

        Sets `ended` at the peer's close_notify. Raises TlsError.
        """
        filled = 0
        pending = self.incoming
        try:
            # An exception per turn (SSLWantReadError) is saved by looking into the buffer first; a record that is not
            # complete has left it for OpenSSL's own.
            if pending.pending or pending.eof:
                filled = self._read(RECORD, buffer)
                self.ended = not filled
                while pending.pending and len(buffer) - filled >= RECORD and not self.ended:
                    count = self._read(RECORD, buffer[filled:])
                    filled += count
                    self.ended = not count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            if not _cut(error):
                raise TlsError(_reason(error)) from None
            if not filled:
                raise TlsTruncatedError("connection closed without close_notify") from None
        return filled

    def write(self, data: bytes | memoryview) -> None:
        """Encrypt; the records are in `take()`."""
        sent = self._write(data)
        if sent < len(data):  # OpenSSL writes one record of at most 16 KiB a call
            view = memoryview(data)
            while sent < len(view):
                sent += self._write(view[sent:])

    def close_write(self) -> None:
        """Send close_notify; reading goes on."""
        if self.write_closed or not self.open:
            return
        self.write_closed = True
        # Wants to read the peer's close_notify (the usual case), or the session is broken: ours is sent or moot.
        with contextlib.suppress(ssl.SSLError):
            self._session.unwrap()

    @property
    def alpn(self) -> str | None:
        """The application protocol that was agreed (RFC 7301)."""
        return self._session.selected_alpn_protocol()

    @property
    def version(self) -> str:
        """Of the protocol: `TLSv1.3`."""
        return self._session.version() or ""

    @property
    def cipher(self) -> str:
        """Its name with OpenSSL."""
        cipher = self._session.cipher()
        return cipher[0] if cipher else ""

    @property
    def resumed(self) -> bool:
        """What the peer proved, it proved in an earlier connection."""
        return bool(self._session.session_reused)

    def certificate(self) -> tuple[dict[str, Any], bytes] | None:
        """
        What the peer's verified certificate says, as `ssl` has it, and its DER; None if it showed none.

        Raises TlsError for one that cannot be read.
        """
        try:
            der = self._session.getpeercert(binary_form=True)
            said = self._session.getpeercert()
        except (ValueError, ssl.SSLError):
            raise TlsError("the client's certificate cannot be read") from None
        if der is None or not said:
            return None
        return said, der
