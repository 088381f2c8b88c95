"""
One client socket and its one backend socket: what is read, what waits to be written, and who has to wait for whom.

The backend belongs to this client alone. Back-pressure is two rules: while bytes wait for the backend nothing is read
from the client, and while bytes wait for the client nothing is read from the backend. So at most one buffer's worth is
held in each direction. Every event ends in `_settle`, which does what the flow has decided and then says what to wait
for. An exception that nobody expected is a fault of ours: it costs this connection, and is told, but not the others.

Long, because it is one state machine: what is read, obeyed, watched and timed decide about each other. The seam for a
split is the client's half (socket, TLS, what waits for it), as `Upstream` is the backend's.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from math import inf
from typing import TYPE_CHECKING, Any, Final

from sslterm.protocol.flows import Flow, RawFlow, Record, Waiting
from sslterm.protocol.http_flow import HttpFlow
from sslterm.protocol.identity import PeerIdentity, header_fields
from sslterm.protocol.introduction import introduce
from sslterm.protocol.preface import ACME_ALPN, Preface
from sslterm.protocol.proxy import Caller, ProxyError
from sslterm.protocol.tls import CertificateError, PlainHttpError, TlsError, TlsSession, TlsTruncatedError
from sslterm.relay.base import BaseConnection
from sslterm.relay.gate import ANYBODY, reason
from sslterm.relay.tally import REFUSED, REQUESTS
from sslterm.relay.upstream import RESET, Upstream
from sslterm.settings import CHECK_ALPN, Mode, SendProxy, among

if TYPE_CHECKING:
    from collections.abc import Callable

    from sslterm.relay.listener import Listener
    from sslterm.relay.loop import Timer

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR
_LINGER: Final = 5.0
"""
Seconds for a client to close after us. Closing with unread bytes sends RST, which can destroy the end of the response
in the client's buffers (RFC 9112, section 9.6).
"""
GRACE: Final = 1.0
"""
Seconds that a drain leaves to what is half-way: a request on its way to us, a handshake, a client that closes after us.
That is five round trips to the far side of the world; silent sockets do not delay the end for longer.
"""
_MOST_CONTROL: Final = 65536
"""
Bytes of TLS that may come in a row without content. A KeyUpdate costs us 15 µs and an answer (RFC 8446, section 4.6.3),
so a client that sends nothing else could keep a core busy; one record of content may be 16 KiB in the making.
"""
_CREDIT: Final = 32
"""Bytes of TLS forgiven for each byte of content: the smallest record takes 23 for one."""
_MOST_OWED: Final = 262144
"""Bytes for the client beyond which nothing is read from it: it can have answers queued, to KeyUpdates, by sending."""
_LITTLE: Final = 4096
"""Bytes that are worth a copy, to be sent at the end of the turn."""
_LONGEST_TIMER: Final = 30.0
"""Seconds after which a timer looks again, so that those of closed connections do not pile up."""
_NEVER_RELAYED: Final = frozenset({CHECK_ALPN, ACME_ALPN})
"""Application protocols of which the handshake is the answer (RFC 8737, section 3)."""
_PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"400 This port speaks TLS: use https instead.\n"
)
# What a connection waits for that no flow knows of; continues the numbers of `Waiting`.
_NOTHING: Final = 0
_HANDSHAKE: Final = 10
_CONNECT: Final = 11
_CLIENT_READS: Final = 12
_CLOSE: Final = 13
_BACKEND_READS: Final = 14
_FROM_BEGINNING: Final = frozenset({
    Waiting.NEXT_REQUEST, Waiting.HEAD, Waiting.RESPONSE, _HANDSHAKE, _CONNECT, _CLOSE,
})  # fmt: skip
"""Limits that run from the beginning, whatever trickles in; the others start anew when content has moved."""


class Connection(BaseConnection):
    """A client, from accept to close."""

    __slots__ = (
        "_client", "_client_ended", "_client_mask", "_closing", "_control", "_deadline", "_end_told", "_fd", "_flow",
        "_kind", "_listed", "_log", "_moved", "_name", "_peer", "_policy", "_preface", "_receive", "_relay", "_send",
        "_timer", "_tls", "_to_client", "_upstream",
    )  # fmt: skip

    def __init__(self, listener: Listener, client: socket.socket, peer: tuple[Any, ...]) -> None:
        self.listener = listener
        self._relay = relay = listener.relay
        self._policy = listener.policy
        self._log = listener.policy.access_log
        self._client = client
        self._receive: Callable[[bytearray], int] = client.recv_into
        self._send = client.send
        self._fd = client.fileno()
        self._called_by(peer[0].removeprefix("::ffff:"), peer[1])
        self._preface: Preface | None = None
        self._tls = TlsSession(listener.policy.context())
        self._upstream = Upstream(relay, listener.policy.backends)
        self._flow: Flow | None = None
        self._to_client: bytes = b""
        self._control = 0
        self._moved = False
        self._client_ended = False
        self._end_told = False
        self._closing = False
        self._listed = False
        self._client_mask = _IN
        self._kind = _HANDSHAKE
        client.setblocking(False)
        relay.register(self._fd, self._first_handler(peer[1]))
        relay.connections.add(self)
        self._deadline = relay.now + listener.policy.settings.handshake_timeout
        self._timer = self._start_timer()

    def _called_by(self, host: str, port: int) -> None:
        self._peer: str = host
        self._name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _first_handler(self, port: int) -> Callable[[int], None]:
        """What takes the client's first bytes: TLS, unless something asks for a look at them before."""
        policy = self._policy
        settings = policy.settings
        headed = among(self._peer, settings.accept_proxy)
        hello = settings.send_proxy is not SendProxy.OFF or policy.challenge() is not None
        if not (headed or hello):
            return self._on_client
        here = self._client.getsockname()
        caller = Caller(self._peer, port, here[0].removeprefix("::ffff:"), here[1])
        self._preface = Preface(caller, headed=headed, hello=hello)
        return self._on_preface

    @property
    def under_way(self) -> bool:
        """Cutting it now would be noticed."""
        return not self._closing and self._flow is not None and not self._flow.idle

    def drain(self) -> None:
        """Finish what is under way; what waits gets a moment more, for a request may be on its way."""
        try:
            if self._flow is not None and not self._closing:
                self._flow.drain()
                if not self._flow.idle:
                    return
            elif self._to_client:
                return
            self._deadline = min(self._deadline, self._relay.now + self.listener.grace)
            self._arm()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def expect_end(self) -> None:
        """
        The backend is about to stop: say so to an HTTP client with the next response.

        One that has not asked yet gets its connection to the backend now: later there may be none to be had, and the
        backend is the one to decide what becomes of it.
        """
        if self._closing or self._policy.settings.mode is not Mode.HTTP:
            return
        try:
            flow = self._flow
            if flow is not None:
                flow.drain()
            if self._upstream.socket is None and (flow is None or flow.idle):
                self._dial()
                if flow is not None:
                    self._settle()
                elif self._fd >= 0:
                    self._hold_backend()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def expect_more(self) -> None:
        """The backend goes on."""
        if self._flow is not None:
            self._flow.undrain()

    def strand(self) -> None:
        """The backend listens no more: close, unless there is a connection to it, or a request under way."""
        try:
            if self._upstream.socket is not None or self._closing:
                return
            if self._flow is None:
                self._reset()
            elif self._flow.idle:
                self._close()
                self._settle()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    @property
    def idle_since(self) -> float:
        """When an idle connection became so; infinite for one that is not idle."""
        if self._flow is None or not self._flow.idle or self._closing:
            return inf
        return self._deadline - self.listener.limits[Waiting.NEXT_REQUEST]

    @property
    def pace(self) -> float:
        """Bytes a second at which a client sends or takes a body; infinite if it is no body, or still a young one."""
        if self._flow is None or self._closing or self._kind not in (Waiting.REQUEST_BODY, _CLIENT_READS):
            return inf
        age, pace = self._flow.pace(self._relay.now)
        return pace if age > self._policy.settings.stall_timeout else inf

    def evict(self) -> None:
        """Make room for another: close an idle connection at once, which a client has to reckon with any time."""
        self._tls.close_write()
        self._flush_client()
        if self._fd >= 0:
            self._release()

    def cut(self, fault: str) -> None:
        """Close both sockets at once."""
        try:
            if self._flow is not None:
                self._flow.client_lost(self._relay.now, fault)
                self._log_all(self._flow)
        finally:
            self._abort()

    # The client's socket.

    def _on_preface(self, _mask: int) -> None:
        """As `_on_client`, until what comes before TLS is whole."""
        try:
            if self._preface is not None:
                self._read_preface(self._preface)
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def _read_preface(self, preface: Preface) -> None:
        try:
            data = self._client.recv(_LITTLE)
            if data and not preface.feed(data):
                return
        except BlockingIOError:
            return
        except OSError:
            data = b""
        except ProxyError as error:
            self.listener.tally[REFUSED] += 1
            self.listener.complain("WARNING", f"no PROXY protocol from {self._peer}: {error}")
            data = b""
        if not data:
            self._abort()
            return
        self._called_by(preface.caller.host, preface.caller.port)
        challenge = self._policy.challenge() if preface.probes else None
        if challenge is not None:
            self._tls = TlsSession(challenge)
        self._relay.hand(self._fd, self._on_client)
        self._receive = preface.take_into
        self._on_client(_IN)
        self._receive = self._client.recv_into

    def _on_client(self, mask: int) -> None:
        try:
            if mask & _OUT:
                self._flush_client()
            if self._fd >= 0:
                if mask & _IN:
                    self._read_client()
                elif mask & _BROKEN:
                    # Reset while we were not reading, or closed on both sides.
                    self._client_gone("the client reset the connection")
            if self._fd >= 0:
                self._go_on()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def _read_client(self) -> None:
        relay = self._relay
        try:
            count = self._receive(relay.encrypted)
        except BlockingIOError:
            return
        except OSError as error:
            self._client_gone(f"the client's connection broke: {os.strerror(error.errno or 0)}")
            return
        tls = self._tls
        if self._closing or tls.ended:  # what follows close_notify is of no interest, and must not pile up either
            if not count:
                self._client_ended = True
            return
        if count:
            self._control += count
            tls.feed(relay.ciphertext[:count])
        else:
            self._client_ended = True
            tls.feed_eof()
        try:
            flow = self._flow
            if flow is None:
                if not tls.handshake():
                    return
                flow = self._open()
                if flow is None:
                    return
                self._control = 0
                if relay.lame:
                    flow.drain()
                self._pump_client(flow)
                if relay.draining:
                    flow.drain()
            else:
                self._pump_client(flow)
        except PlainHttpError as error:
            tls.take()  # an alert, which this client could not read
            self._to_client = _PLAIN_HTTP
            self._refuse(str(error))
        except TlsTruncatedError as error:
            if self._flow is None:
                self._abort()  # a port scanner, or a load balancer's probe: not worth a word
            else:
                self._client_gone(str(error))
        except TlsError as error:
            if isinstance(error, CertificateError):
                self._deny(error)
            elif self._flow is None:
                self._refuse(str(error))
            else:
                self._client_gone(f"TLS: {error}")

    def _open(self) -> Flow | None:
        """The handshake is done: the flow for what follows, or None if nothing does."""
        if self._tls.alpn in _NEVER_RELAYED:
            self._close()
            return None
        settings = self._policy.settings
        gate = self.listener.gate
        verdict = ANYBODY if gate is None else gate.judge(self._tls)
        if verdict.denied:
            self.listener.deny(verdict.denied, self._peer, verdict.why)
        peer = verdict.peer
        if peer is not None:
            self._name = f"{self._name} {peer.name}"
        if settings.mode is Mode.HTTP:
            self._flow = HttpFlow(
                peer=self._peer.encode(),
                trusted=among(self._peer, settings.trusted_proxies),
                max_head_size=settings.max_head_size,
                identity=b"" if peer is None else header_fields(peer, self._policy.own_uri()),
                denied=verdict.why,
            )
        elif verdict.denied:
            self._give_up(verdict.why)
        else:
            self._flow = RawFlow(self._relay.now)
            self._introduce(peer)
        return self._flow

    def _introduce(self, peer: PeerIdentity | None) -> None:
        """Before all else, tell the backend who calls, if it is to know."""
        settings, preface = self._policy.settings, self._preface
        self._preface = None
        if settings.send_proxy is SendProxy.OFF or preface is None:
            return
        try:
            self._upstream.pending = introduce(preface, self._tls, peer, settings.proxy_spiffe_type)
        except ProxyError as error:
            self._flow = None
            why = f"no PROXY header can be made for it: {error}"
            self.listener.complain("ERROR", f"closed the connection of {self._name}: {why}", about=why)
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        """Close a connection of which nothing was relayed, in order; the access log says why."""
        now = self._relay.now
        if self._log is not None:
            self._log.add(Record(now, now, 0, "", "", 0, 0, why), self._name)
            self._relay.unlogged = True
        self.listener.tally[REQUESTS] += 1
        self._close()

    def _close(self) -> None:
        self._tls.close_write()
        self._closing = True

    def _pump_client(self, flow: Flow) -> None:
        """Decrypt what was fed, and hand it on."""
        tls, relay = self._tls, self._relay
        while not (flow.over or flow.lost):
            count = tls.read_into(relay.plaintext)
            if count:
                self._moved = True
                if self._control:
                    self._control = max(0, self._control - _CREDIT * count)
                out = flow.from_client(relay.plaintext[:count], relay.now)
                if out:
                    upstream = self._upstream
                    if len(out) <= _LITTLE and upstream.flows and not upstream.held:
                        upstream.held = bytes(out)
                        self._list()
                    else:
                        upstream.send(out)
                        relay.hurry = True
            if tls.ended:
                if not self._end_told:
                    self._end_told = True
                    flow.client_ended(relay.now)
                return
            if not count or not tls.incoming.pending:
                if self._control > _MOST_CONTROL:
                    self._client_gone("the client sends TLS records without content")
                return

    def _flush_client(self) -> None:
        data = self._tls.take()
        if self._to_client:
            data = self._to_client + data
        elif not data:
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._to_client = b""
            self._client_gone(f"the client's connection broke: {os.strerror(error.errno or 0)}")
            return
        if self._to_client and sent:
            self._moved = True
            self._to_client = b""
        if sent < len(data):
            self._to_client = data[sent:]

    def _refuse(self, reason: str) -> None:
        """The handshake failed: the alert, if there is one, is on its way out."""
        self.listener.tally[REFUSED] += 1
        # One subject for all addresses: a scanner must not fill the list of what was said.
        self.listener.complain("INFO", f"TLS handshake with {self._peer} failed: {reason}", about=reason)
        self._closing = True

    def _deny(self, error: CertificateError) -> None:
        """The client's certificate is missing or bad, and OpenSSL tells it so by an alert."""
        self._closing = True
        # `sslterm check` shows no certificate, and has its answer already. Who shows a bad one is somebody else.
        if not (error.missing and self._tls.alpn in _NEVER_RELAYED):
            self.listener.tally[REFUSED] += 1
            self.listener.deny(reason(error), self._peer, f"TLS handshake failed: {error}")

    def _client_gone(self, fault: str) -> None:
        flow = self._flow
        if self._closing or flow is None:
            self._abort()
            return
        flow.client_lost(self._relay.now, fault)
        if not flow.lost:  # nothing was under way, or only the last bytes did not arrive
            self._log_all(flow)
            self._abort()

    # The backend's socket.

    def _dial(self) -> None:
        failed = self._upstream.dial(self._on_backend)
        if failed:
            self._backend_unreachable(failed)

    def _backend_unreachable(self, code: int) -> None:
        host, port = self._policy.backends[0].sockaddr[:2]
        fault = f"backend {host}:{port}: {os.strerror(code)}"
        self.listener.complain("WARNING", fault)
        if code == errno.ECONNREFUSED:
            self._policy.refused()
        if self._flow is not None:
            self._flow.backend_failed(self._relay.now, 502, fault)
            if self._flow.idle:
                self._close()
        elif code == errno.ECONNREFUSED:
            self._reset()  # nothing was asked yet, so this is no answer, but as a refused connection

    def _on_backend(self, mask: int) -> None:
        try:
            upstream = self._upstream
            if upstream.connecting:
                failed = upstream.connected()
                if failed:
                    self._backend_unreachable(failed)
                elif self._flow is None:
                    self._hold_backend()
            else:
                if mask & _OUT:
                    self._moved = True
                    upstream.flush()
                if mask & _IN:
                    self._read_backend()
                elif mask & _BROKEN:
                    self._backend_broken()
            if self._fd >= 0:
                self._go_on()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def _hold_backend(self) -> None:
        """Until there is a flow to hear what it says."""
        if not self._upstream.connecting:
            self._upstream.park()
        elif self._client_mask:
            # Nor is the client heard before it is known whether there is a place: by its own account, its handshake
            # would be done, and its request on the way, when it is reset.
            self._client_mask = 0
            self._relay.modify(self._fd, 0)

    def _backend_broken(self) -> None:
        """Reset, or closed on both sides, while we were not waiting for what it says."""
        if self._upstream.ended:
            self._upstream.give_up()
            if self._flow is not None:
                self._flow.client_lost(self._relay.now, "the backend reset the connection")
        elif self._to_client:
            self._upstream.park()
        else:
            self._read_backend()

    def _read_backend(self) -> None:
        upstream, flow, relay = self._upstream, self._flow, self._relay
        if upstream.socket is None or flow is None or upstream.ended:
            return
        try:
            count = upstream.receive(relay.decrypted)
        except BlockingIOError:
            return
        except OSError as error:
            self._end_backend(flow, f"the backend's connection broke: {os.strerror(error.errno or 0)}")
            return
        if not count:
            self._end_backend(flow, "")
            return
        self._moved = True
        out = flow.from_backend(relay.plaintext[:count], relay.now)
        if out:
            self._tls.write(out)
            if count <= _LITTLE:
                self._list()
            else:
                relay.hurry = True
                if not flow.todo:
                    self._flush_client()

    def _end_backend(self, flow: Flow, fault: str) -> None:
        upstream = self._upstream
        upstream.ended = True
        again = flow.backend_ended(self._relay.now, fault)
        if fault or flow.waiting != Waiting.TUNNEL:
            upstream.drop()
        if again:
            upstream.send(again)
        elif flow.idle and (self._relay.lame or (self.listener.closed and not self._relay.draining)):
            self._close()  # as the backend did

    # Both.

    def _list(self) -> None:
        if not self._listed:
            self._listed = True
            self._relay.outbox.append(self)

    def send_out(self) -> None:
        """
        The end of a turn: send what little was put together in it.

        All connections do so at once, because each send wakes the one who waits for it: most are awake already then.
        One by one, the wake-ups cost a third of a small request in http mode.
        """
        self._listed = False
        try:
            if self._fd >= 0:
                self._upstream.release()
                self._flush_client()
                if self._fd >= 0 and (self._to_client or not self._upstream.flows):
                    self._settle()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def _go_on(self) -> None:
        """After an event: next to nothing, if nothing was decided and nothing has to wait, as it is nearly always."""
        flow = self._flow
        if (
            flow is None
            or flow.todo
            or self._to_client
            or self._client_mask != _IN
            or self._client_ended
            or not self._upstream.flows
            or (self._tls.outgoing.pending and not self._listed)
        ):
            self._settle()
            return
        if flow.records:
            self._log_all(flow)
        kind = flow.waiting
        if kind != self._kind or (self._moved and kind not in _FROM_BEGINNING):
            self._wait_for(kind, self.listener.limits[kind])

    def _settle(self) -> None:
        """Do what the flow decided, then wait for what is next."""
        self._upstream.release()
        flow = self._flow
        if flow is not None and not self._closing:
            flow.todo = False
            self._obey(flow)
            if self._fd < 0:
                return
        if self._tls.outgoing.pending:
            self._flush_client()
            if self._fd < 0:
                return
            if flow is not None and flow.lost:
                self._log_all(flow)
                self._abort()
                return
            if flow is not None and flow.can_resume and not (self._to_client or self._closing):
                self._settle()  # what had to wait for the client to take this, does so no more
                return
        if self._closing and not self._to_client and self._close_softly():
            return
        self._watch()
        self._set_deadline()

    def _obey(self, flow: Flow) -> None:
        upstream = self._upstream
        while True:
            if flow.hang_up:
                flow.hang_up = False
                upstream.drop()
            if flow.lost:
                self._log_all(flow)
                self._abort()
                return
            if flow.reply:
                self._tls.write(flow.reply)
                flow.reply = b""
            if not flow.can_resume or self._to_client:
                break
            self._kind = _NOTHING  # the time limits of the exchange before are not those of the next
            out = flow.resume(self._relay.now)
            if out:
                upstream.send(out)
        if flow.dial:
            flow.dial = False
            if upstream.socket is None:
                self._dial()
                if flow.lost or flow.reply:
                    self._obey(flow)
                    return
        if flow.records:
            self._log_all(flow)
        if flow.end_client:
            self._tls.close_write()
        if flow.over and not (upstream.pending and flow.waiting == Waiting.TUNNEL):
            self._tls.close_write()
            upstream.drop()
            self._closing = True
        elif flow.end_backend:
            upstream.close_write()

    def _log_all(self, flow: Flow) -> None:
        if self._log is not None:
            for record in flow.records:
                self._log.add(record, self._name)
            self._relay.unlogged = True
        self.listener.tally[REQUESTS] += len(flow.records)
        flow.records.clear()

    def _watch(self) -> None:
        """Wait for what can be used, and for nothing else."""
        flow, upstream = self._flow, self._upstream
        mask = 0
        if not self._client_ended and (self._closing or not ((flow is not None and flow.hold) or upstream.pending)):
            mask = _IN if len(self._to_client) < _MOST_OWED else 0
        if self._to_client:
            mask |= _OUT
        if mask != self._client_mask:
            self._client_mask = mask
            self._relay.modify(self._fd, mask)
        if upstream.socket is not None and flow is not None:
            upstream.watch(read=not self._to_client)

    def _set_deadline(self) -> None:
        flow = self._flow
        limits = self.listener.limits
        if self._closing and not self._to_client:
            kind, limit = _CLOSE, GRACE if self._relay.draining else _LINGER
        elif self._closing:
            kind, limit = _CLIENT_READS, self._policy.settings.stall_timeout
        elif flow is None:
            return
        elif self._upstream.connecting:
            kind, limit = _CONNECT, self._policy.settings.connect_timeout
        elif self._to_client and flow.waiting != Waiting.TUNNEL:
            kind, limit = _CLIENT_READS, self._policy.settings.stall_timeout
        elif self._upstream.pending and flow.waiting == Waiting.REQUEST_BODY:
            kind, limit = _BACKEND_READS, limits[Waiting.RESPONSE]
        else:
            kind, limit = flow.waiting, limits[flow.waiting]
        if kind != self._kind or (self._moved and kind not in _FROM_BEGINNING):
            self._wait_for(kind, limit)

    def _wait_for(self, kind: int, limit: float) -> None:
        self._moved = False
        self._kind = kind
        self._deadline = deadline = self._relay.now + limit
        if deadline < self._timer.when:
            self._arm()

    def _start_timer(self) -> Timer:
        return self._relay.call_at(min(self._deadline, self._relay.now + _LONGEST_TIMER), self._on_timer)

    def _arm(self) -> None:
        self._timer.cancel()
        self._timer = self._start_timer()

    def _on_timer(self) -> None:
        try:
            if self._relay.now >= self._deadline:
                self._expire()
                if self._fd >= 0:
                    self._settle()
            if self._fd >= 0:
                self._arm()
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._defect(error)

    def _expire(self) -> None:
        flow, now, kind = self._flow, self._relay.now, self._kind
        if flow is None or self._closing:
            self._abort()
        elif kind == _CONNECT:
            self._upstream.drop()
            flow.backend_failed(now, 504, "the backend did not accept the connection in time")
        elif kind in (Waiting.RESPONSE, _BACKEND_READS):
            self.listener.complain("WARNING", "the backend did not answer in time")
            flow.backend_failed(now, 504, "the backend did not answer in time")
        elif kind == _CLIENT_READS:
            flow.client_lost(now, "the client did not take the response in time")
        else:
            flow.client_late(now)

    # The end.

    def _close_softly(self) -> bool:
        """Everything is sent: say so, and wait a moment for the client to close first. True if it is closed now."""
        if self._client_ended:
            self._release()
            return True
        if self._kind != _CLOSE:
            try:
                self._client.shutdown(socket.SHUT_WR)
            except OSError:
                self._release()
                return True
        return False

    def _abort(self) -> None:
        """Close both at once; a stream that was cut is seen to be cut."""
        if self._fd < 0:
            return
        cut = self._flow is not None and not self._closing and not self._flow.idle
        if cut:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._upstream.drop(reset=cut)
        self._release()

    def _reset(self) -> None:
        """Close the client's socket so that it cannot take that for an answer."""
        if self._fd >= 0:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._release()

    def _release(self) -> None:
        self._upstream.drop()
        self._timer.cancel()
        self._relay.unregister(self._fd)
        self._fd = -1
        self._relay.bury(self._client)
        self._relay.closed(self)
        self.listener.released()
