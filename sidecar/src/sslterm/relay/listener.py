"""
Listening sockets: bind, accept, and when not to accept.

At `max_connections`, and when the process or the machine has no file descriptor left, accepting pauses and new clients
wait in the kernel's queue: the connections that are there keep working, and the loop does not spin.

A socket that listens has clients of whom we do not know yet: in its queue those whose TCP handshake is done, and before
it those who are in the middle of one. Closing it resets them all. So in the end the queue is emptied first; and where
another process takes over the port, by `direct` nothing new comes to the old one's socket, which then stays open until
the handshakes that had begun there are through.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sslterm.protocol.flows import Waiting
from sslterm.relay.connection import GRACE, Connection
from sslterm.relay.gate import Gate
from sslterm.relay.tally import ACCEPTED, OPEN
from sslterm.settings import Address, ClientAuth

if TYPE_CHECKING:
    from sslterm.relay.base import BaseConnection
    from sslterm.relay.loop import Relay
    from sslterm.relay.policy import Policy

_BACKLOG: Final = 1024
_PER_TURN: Final = 16
"""Connections accepted before the others get their turn; a handshake costs as much as 20 requests."""
_GONE: Final = frozenset({
    errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP,
    errno.ENETDOWN, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.ENETUNREACH,
})  # fmt: skip
"""Errors of the connection that was to be accepted (accept(2)): the next one may be sound. All others are ours."""
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 1.0
_SILENCE: Final = 10.0
"""A port scanner or a dead backend must not flood the log: seconds in which a complaint is not repeated."""
_SUBJECTS: Final = 32
_DENIED: Final = 256
"""Denied clients that are told of, each for itself, in as many seconds; if there are more, somebody tries them out."""
_TRICKLE: Final = 1024.0
"""Bytes a second, over a whole body and after `stall_timeout`: a modem had five times that."""
_JUST_NOW: Final = 0.5
"""Seconds: who shook hands or got an answer since then is about to ask, and would lose a request on its way."""
_LOOK_AGAIN: Final = 0.25
"""Seconds: one of the connections may be idle by then."""
_ATTACH_REUSEPORT_CBPF: Final = 51
"""SO_ATTACH_REUSEPORT_CBPF (asm-generic/socket.h), for which `socket` has no name."""
_RETURN: Final = 0x06
"""BPF_RET | BPF_K (linux/bpf_common.h): the filter's answer is the number beside it."""


def bind(address: Address, *, shared: bool = False, listening: bool = True) -> socket.socket:
    """
    A listening socket, not blocking; an empty host is every interface, of IPv6 and IPv4 where there are both.

    `shared`: other processes of this user that do the same may have the port, too. `listening` is False for a look at
    whether the address can be had: nobody connects to that.

    Raises OSError: EADDRINUSE, EADDRNOTAVAIL, EACCES; socket.gaierror for a host that does not resolve.
    """
    if address.host:
        family, _, _, _, sockaddr = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    elif socket.has_dualstack_ipv6():
        family, sockaddr = socket.AF_INET6, ("::", address.port)
    else:
        family, sockaddr = socket.AF_INET, ("0.0.0.0", address.port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart has to wait until the connections of the process before have left TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:  # else not: any process of the same user could take a share of the connections
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(address.host)))
        # For the connections that are accepted here, which take these over.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # notices clients that vanish from tunnels
        listener.bind(sockaddr)
        if listening:
            listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def shut(listener: socket.socket) -> None:
    """
    Have `listener` listen no more, at once and in all processes that have it: their epoll sets tell them (EPOLLHUP).

    Its address can be bound anew from then on, although it is not closed yet. Who is in its queue is reset.
    """
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def direct(listener: socket.socket, place: int) -> None:
    """
    Have the kernel give all new connections to the socket at `place` among those that share the address of `listener`.

    The newest comes last. When one closes, the last takes its place; a place that nobody has is no error: then the
    kernel shares the connections out. Raises OSError where the kernel cannot do it.
    """
    program = array("B", struct.pack("=HBBI", _RETURN, 0, 0, place))  # struct sock_filter: code, jt, jf, k
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_REUSEPORT_CBPF, struct.pack("@HP", 1, program.buffer_info()[0]))
    len(program)  # in use until here: compiled code frees a variable after its last use, and the kernel has the address


class Listener:
    """One bound socket in the relay's epoll set."""

    __slots__ = (
        "_complained", "_counter", "_denied", "_leaving", "_mask", "_pause", "_paused", "gate", "grace", "limits",
        "policy", "relay", "socket", "tally",
    )  # fmt: skip

    def __init__(self, relay: Relay, listener: socket.socket, policy: Policy) -> None:
        self.relay = relay
        self.socket = listener
        self.policy = policy
        self.tally = policy.tally.mine
        # Of the processes that wait for the same socket, the kernel is to wake one for each client.
        self._mask: int = select.EPOLLIN | (select.EPOLLEXCLUSIVE if policy.tally.shared else 0)
        asks = policy.settings.client_auth is not ClientAuth.NONE and policy.outbound is None
        self.gate = Gate(policy.settings) if asks else None
        """Whom to let in; None for everybody."""
        limits = policy.settings
        self.limits: dict[int, float] = {
            Waiting.NEXT_REQUEST: limits.keepalive_timeout,
            Waiting.HEAD: limits.head_timeout,
            Waiting.REQUEST_BODY: limits.stall_timeout,
            Waiting.RESPONSE: limits.response_timeout,
            Waiting.RESPONSE_BODY: limits.idle_timeout,
            Waiting.TUNNEL: limits.idle_timeout,
        }
        """Seconds that a connection may wait, by what its flow waits for."""
        self.grace = GRACE
        """Seconds that a drain leaves to what is half-way."""
        self._counter = ACCEPTED
        self._pause = 0.0
        self._paused = False
        self._leaving = False
        self._complained: dict[str, float] = {}
        self._denied: dict[str, float] = {}
        relay.register(listener.fileno(), self.on_ready, self._mask)

    def on_ready(self, mask: int) -> None:
        if mask & select.EPOLLHUP:
            self.shut()
            return
        before = self.tally[self._counter]
        self.accept()
        if self.policy.tally.shared and self.tally[self._counter] > before and not (self._paused or self.closed):
            # The kernel wakes whoever has waited for longest: this process goes to the end of the queue.
            self.relay.unregister(self.socket.fileno())
            self.relay.register(self.socket.fileno(), self.on_ready, self._mask)

    def accept(self) -> None:
        """Accept some of those who wait."""
        for turn in range(_PER_TURN):
            full = self._full
            if turn and full:
                return  # somebody has to make room, but only if there is one more: epoll says so again
            if full and not self._make_room():
                self._pause = 0.0
                self._stop_accepting()
                most = self.policy.settings.max_connections
                self.complain("WARNING", f"max-connections={most} reached: new clients wait")
                self.policy.full()
                self.relay.call_at(self.relay.now + _LOOK_AGAIN, self._try_again)
                return
            try:
                client, peer = self.socket.accept()
            except BlockingIOError:
                if self._leaving:
                    self.close()
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno == errno.EINVAL:  # accept(2): it does not listen any more
                    self.shut()
                    return
                self._stop_accepting()
                self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
                self.complain("ERROR", f"cannot accept connections: {error.strerror}; trying again")
                self.relay.call_at(self.relay.now + self._pause, self._try_again)
                return
            self._pause = 0.0
            self._welcome(client, peer)

    def make_room(self) -> None:
        """Another process has a client waiting, and no room: accept it here, if there is some or can be."""
        if not self.closed and (not self._full or self._make_room()):
            self.accept()

    @property
    def _full(self) -> bool:
        return self.policy.tally.total(OPEN) >= self.policy.settings.max_connections

    def _make_room(self) -> bool:
        """
        Close the connection that has been idle for longest; without one, the slowest of those that only trickle.

        No client must keep all others out by waiting, nor by a byte of a body now and then (R.U.D.Y.).
        """
        # Also those of a listener before: they count, and the gate makes a new one whenever it opens.
        everybody = list(self.relay.connections)
        oldest = min(everybody, key=lambda each: each.idle_since, default=None)
        if oldest is not None and oldest.idle_since <= self.relay.now - _JUST_NOW:
            oldest.evict()
            return True
        slowest = min(everybody, key=lambda each: each.pace, default=None)
        if slowest is None or slowest.pace >= _TRICKLE:
            return False
        slowest.cut("others wait, and this client was too slow")
        return True

    def _welcome(self, client: socket.socket, peer: tuple[Any, ...]) -> None:
        self.tally[self._counter] += 1
        self.tally[OPEN] += 1
        try:
            connection = self._take(client, peer)
            if self.relay.draining:
                connection.drain()
            elif self.relay.lame:
                connection.expect_end()
        except Exception as error:  # noqa: BLE001 - whatever it is: it must not cost the others their relay
            self.tally[OPEN] -= 1
            client.close()
            self.complain("ERROR", f"cannot serve a connection: {error!r}")

    def _take(self, client: socket.socket, peer: tuple[Any, ...]) -> BaseConnection:
        return Connection(self, client, peer)

    def complain(self, level: str, what: str, about: str = "") -> None:
        """Say something in the sidecar's own log, but about the same thing at most once in `_SILENCE` seconds."""
        if self._news(self._complained, about or what, _SUBJECTS):
            self.policy.report(level, what)

    def deny(self, reason: int, client: str, why: str) -> None:
        """Count and tell a client that may not call: each peer for itself, but not each time that it tries again."""
        self.tally[reason] += 1
        if self._news(self._denied, f"{client} {why}", _DENIED):
            self.policy.report("WARNING", f"denied {client}: {why}")
        elif len(self._denied) >= _DENIED:
            self.complain("WARNING", f"more than {_DENIED} clients were denied; not all of them are told of")

    def _news(self, said: dict[str, float], about: str, most: int) -> bool:
        """Whether `about` is not in `said` already, or was so long ago; if so, it is from now on."""
        now = self.relay.now
        if now - said.get(about, -_SILENCE) < _SILENCE:
            return False
        if len(said) >= most:
            for each in [each for each, when in said.items() if now - when >= _SILENCE]:
                del said[each]
            if len(said) >= most:
                return False
        said[about] = now
        return True

    def _stop_accepting(self) -> None:
        if not self._paused:
            self._paused = True
            self.relay.unregister(self.socket.fileno())

    def _try_again(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            self.relay.register(self.socket.fileno(), self.on_ready, self._mask)
            if self._leaving:
                self._leave()

    def released(self) -> None:
        """One of its connections is closed."""
        self.tally[OPEN] -= 1
        if not self._pause:  # else a timer is running
            self._try_again()

    def drain(self, timeout: float) -> None:
        """Serve who is in the queue already, then listen no more; `timeout` is when the whole drain ends."""
        self.grace = min(GRACE, timeout)
        self.limits[Waiting.NEXT_REQUEST] = min(self.limits[Waiting.NEXT_REQUEST], self.grace)
        if self.policy.settings.hand_over:
            self.relay.call_at(self.relay.now + self.grace, self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        """Empty the queue and close, unless there is no room: then whoever makes some calls this again."""
        self._leaving = True
        for _ in range(_BACKLOG // _PER_TURN + 1):  # more cannot have waited
            if self._paused or self.closed:
                return
            self.accept()
        if not self._paused:
            self.close()

    def shut(self) -> None:
        """
        Somebody ended the listening (`shutdown`), because the backend listens no more.

        Whoever has no connection to the backend yet, or has none any more, would get none: the backend's own clients
        find the same.
        """
        self.close()
        for each in [each for each in self.relay.connections if each.listener is self]:
            each.strand()

    def close(self) -> None:
        """Listen no more."""
        if not self.closed:
            self._stop_accepting()
            self.socket.close()
            self.relay.end_if_drained()

    @property
    def closed(self) -> bool:
        """It listens no more."""
        return self.socket.fileno() < 0
