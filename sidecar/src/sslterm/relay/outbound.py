"""
One program of this namespace, in plain text on loopback, and the TLS connection of its own to whom it calls.

The server is dialled, and its certificate verified, before anything is read from the caller: until then its bytes wait
in the kernel. Any address of the host will do, in any order, for one that refuses, is silent, or breaks off the
handshake; a server that answers with the wrong certificate is the end. Whatever goes wrong resets the caller, who
must not take it for an end in order.

Back-pressure and ends are those of `connection.py`, the other way round: what waits for one side stops the reading
from the other, and each direction ends by itself, shutdown by close_notify and close_notify by shutdown.
"""

from __future__ import annotations

import errno
import os
import random
import select
import socket
from typing import TYPE_CHECKING, Any, Final

from sslterm.protocol.flows import Record
from sslterm.protocol.tls import CertificateError, TlsError, TlsSession, TlsTruncatedError
from sslterm.relay.base import BaseConnection
from sslterm.relay.caller import Caller
from sslterm.relay.tally import OUTBOUND_FAILED
from sslterm.relay.upstream import Upstream

if TYPE_CHECKING:
    from sslterm.relay.loop import Timer
    from sslterm.relay.outlet import Outlet
    from sslterm.relay.policy import Backend

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_LEAST_SHARE: Final = 0.5
"""Seconds for an address at least, however many there are: a SYN that is lost is sent again after one."""
_MOST_CONTROL: Final = 65536
"""Bytes of TLS that may come in a row without content, and how much more for each byte of it: as for clients."""
_CREDIT: Final = 32
_MOST_OWED: Final = 262144
"""Bytes for the server beyond which nothing is read from it: by KeyUpdates it can have answers queued."""
_KEEP_ALIVE: Final = 300
"""Seconds without traffic: the load balancer of a Swarm service (IPVS) forgets a connection after 900."""
_LONGEST_TIMER: Final = 30.0
"""Seconds after which a timer looks again, so that those of closed connections do not pile up."""


class OutboundConnection(BaseConnection):
    """A call to another, from accept to close."""

    __slots__ = (
        "_caller", "_control", "_deadline", "_given_up_at", "_moved", "_outlet", "_received", "_relay", "_sent",
        "_started", "_timer", "_tls", "_upstream",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, accepted: socket.socket, peer: tuple[Any, ...]) -> None:
        self.listener = self._outlet = outlet
        self._relay = relay = outlet.relay
        self._caller = Caller(relay, accepted, peer, self._on_caller)
        self._tls: TlsSession | None = None
        """There is one as soon as the server is reached."""
        self._upstream = Upstream(relay, ())
        self._started = relay.now
        self._received = 0
        """Bytes from the caller; `_sent`: to it, or on their way."""
        self._sent = 0
        self._control = 0
        self._moved = False
        relay.connections.add(self)
        self._deadline = self._given_up_at = relay.now + outlet.policy.settings.connect_timeout
        self._timer = self._start_timer()
        outlet.resolver.ask(self, self._dial)

    @property
    def under_way(self) -> bool:
        return not self._caller.closed

    def cut(self, fault: str) -> None:
        if not self._caller.closed:
            self._lose(fault)

    # To the server.

    def _dial(self, found: tuple[Backend, ...], why: str) -> None:
        if self._caller.closed:
            return
        try:
            outlet = self._outlet
            there = [each for each in found if not outlet.leads_back(each)]
            if not there:
                self._fail(why or "leads back to this sidecar's own outbound port")
                return
            random.shuffle(there)
            self._upstream = Upstream(self._relay, tuple(there))
            self._go_on_dialling(self._upstream.dial(self._on_upstream))
        except Exception as error:  # noqa: BLE001 - see `connection.py`
            self._defect(error)

    def _go_on_dialling(self, failed: int) -> None:
        """An attempt began, and is to have its share of the time; or it succeeded, or none did."""
        upstream, now = self._upstream, self._relay.now
        if failed:
            self._fail(os.strerror(failed))
        elif upstream.connecting:
            share = max((self._given_up_at - now) / upstream.left, _LEAST_SHARE)
            self._wait(min(share, max(self._given_up_at - now, 0.0)))
        else:
            self._keep_alive()
            policy = self._outlet.policy
            self._tls = tls = TlsSession(policy.context(), self._outlet.outbound.remote.host)
            tls.handshake()
            upstream.send(tls.take())
            self._wait(policy.settings.handshake_timeout)

    def _keep_alive(self) -> None:
        """The caller's own keep-alive ends at its sidecar: this one notices servers that vanished, in its place."""
        there = self._upstream.socket
        if there is not None:
            there.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            there.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE)

    def _on_upstream(self, mask: int) -> None:
        try:
            upstream = self._upstream
            if upstream.connecting:
                self._go_on_dialling(upstream.connected())
            else:
                if mask & _OUT:
                    self._moved = True
                    upstream.flush()
                if mask & _IN:
                    self._read_upstream()
                elif mask & ~_OUT:  # reset while we were not reading: what came before that is still to be read
                    if self._caller.pending:
                        upstream.park()
                    else:
                        self._read_upstream()
            self._settle()
        except Exception as error:  # noqa: BLE001 - see `connection.py`
            self._defect(error)

    def _read_upstream(self) -> None:
        upstream, tls, relay = self._upstream, self._tls, self._relay
        if tls is None:
            return
        try:
            count = upstream.receive(relay.encrypted)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(f"the server's connection broke: {os.strerror(error.errno or 0)}")
            return
        if count:
            self._control += count
            tls.feed(relay.ciphertext[:count])
        else:
            upstream.ended = True
            tls.feed_eof()
        try:
            if not tls.open:
                if not tls.handshake():
                    return
                self._control = 0
                self._wait(self._outlet.policy.settings.idle_timeout)
            self._pump(tls)
        except TlsTruncatedError as error:
            self._break(str(error))
        except CertificateError as error:
            self._fail(str(error))
        except TlsError as error:
            self._fail(f"TLS: {error}")

    def _pump(self, tls: TlsSession) -> None:
        """Decrypt what was fed, and hand it on."""
        relay, caller = self._relay, self._caller
        while not caller.fault:
            count = tls.read_into(relay.plaintext)
            if count:
                self._moved = True
                self._sent += count
                self._control = max(0, self._control - _CREDIT * count)
                caller.send(relay.plaintext[:count])
            if tls.ended:
                self._upstream.ended = True  # what follows close_notify is of no interest
                return
            if not count or not tls.incoming.pending:
                if self._control > _MOST_CONTROL:
                    self._fail("the server sends TLS records without content")
                return

    def _break(self, why: str) -> None:
        """The server's TCP connection ended before its time: before the handshake is over, another may do better."""
        upstream, tls = self._upstream, self._tls
        if tls is not None and tls.open:
            self._lose(why)
        elif upstream.left > 1 and self._relay.now < self._given_up_at:
            self._tls = None
            self._go_on_dialling(upstream.skip(errno.ECONNRESET))
        else:
            self._fail(why)

    # To the caller.

    def _on_caller(self, mask: int) -> None:
        try:
            caller = self._caller
            if mask & _OUT and caller.flush():
                self._moved = True
            if mask & _IN:
                self._read_caller()
            elif mask & ~_OUT:
                caller.hang_up(mask)
            self._settle()
        except Exception as error:  # noqa: BLE001 - see `connection.py`
            self._defect(error)

    def _read_caller(self) -> None:
        caller, tls, relay = self._caller, self._tls, self._relay
        if tls is None or not tls.open:
            return
        count = caller.receive(relay.decrypted)
        if count:
            self._moved = True
            self._received += count
            tls.write(relay.plaintext[:count])
        elif caller.ended:
            tls.close_write()

    # Both.

    def _settle(self) -> None:
        """After an event: send what was encrypted, pass on ends, then wait for what is next."""
        caller, upstream, tls = self._caller, self._upstream, self._tls
        if caller.closed:
            return
        if tls is not None:
            if tls.outgoing.pending:
                upstream.send(tls.take())
            if tls.ended:
                if not caller.pending:
                    caller.end()
                if upstream.deaf and not caller.ended:  # else it was only our close_notify that did not arrive
                    self._lose("the server took no more")
                    return
            if caller.ended and caller.told and not (upstream.pending or caller.fault):
                self._end("")
                return
            if self._moved and tls.open:
                self._moved = False
                self._wait(self._outlet.policy.settings.idle_timeout)
        if caller.fault:
            self._lose(caller.fault)
            return
        upstream.watch(read=not caller.pending and len(upstream.pending) < _MOST_OWED)
        caller.watch(read=tls is not None and tls.open and not upstream.pending)

    def _wait(self, limit: float) -> None:
        self._deadline = deadline = self._relay.now + limit
        if deadline < self._timer.when:
            self._timer.cancel()
            self._timer = self._start_timer()

    def _start_timer(self) -> Timer:
        return self._relay.call_at(min(self._deadline, self._relay.now + _LONGEST_TIMER), self._on_timer)

    def _on_timer(self) -> None:
        try:
            if self._relay.now >= self._deadline:
                self._expire()
            if not self._caller.closed:
                self._timer.cancel()
                self._timer = self._start_timer()
        except Exception as error:  # noqa: BLE001 - see `connection.py`
            self._defect(error)

    def _expire(self) -> None:
        upstream, tls = self._upstream, self._tls
        if tls is None and not upstream.connecting:
            self._fail("did not resolve in time")
        elif tls is None and upstream.left > 1 and self._relay.now < self._given_up_at:
            self._go_on_dialling(upstream.skip(errno.ETIMEDOUT))
        elif tls is None:
            self._fail("did not accept the connection in time")
        elif not tls.open:
            self._fail("did not finish the TLS handshake in time")
        else:
            self._lose("timed out")
        self._settle()

    # The end.

    def _fail(self, why: str) -> None:
        """The call did not come about, or TLS is at fault: tell it, by an alert to the server if there is one."""
        outbound, host = self._outlet.outbound, self._upstream.host
        at = f" at {host}" if host not in ("", outbound.remote.host) else ""
        about = f"outbound={outbound}: {why}"
        self._outlet.complain("WARNING", f"outbound={outbound}{at}: {why}", about=about)
        if self._tls is not None and self._tls.outgoing.pending:
            self._upstream.send(self._tls.take())
        self._upstream.drop()
        self._lose(why)

    def _lose(self, fault: str) -> None:
        """Close both at once; either is to see that it was cut."""
        self._upstream.drop(reset=True)
        self._end(fault)

    def _end(self, fault: str) -> None:
        outlet, relay, caller = self._outlet, self._relay, self._caller
        if caller.closed:
            return
        self._upstream.drop()
        caller.close(reset=bool(fault))
        outlet.resolver.forget(self)
        self._timer.cancel()
        relay.closed(self)
        outlet.released()
        if fault:
            outlet.tally[OUTBOUND_FAILED] += 1
        log = outlet.policy.access_log
        if log is not None:
            target = str(outlet.outbound.remote)
            log.add(Record(self._started, relay.now, 0, "", target, self._received, self._sent, fault), caller.name)
            relay.unlogged = True
