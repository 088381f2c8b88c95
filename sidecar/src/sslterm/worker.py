"""
A worker: a process that relays, and does nothing else.

Started by `workers.py`, never imported. It has no event loop but the relay's own, in which the socket to the first
process is one more to wait for: orders come in on it, and the sidecar's log lines and what has to be acknowledged go
out, a line of JSON each. Its end is the end of the first process, however that came about, and then of this one, too.

Signals are the first process's business: a terminal sends them to both.
"""

from __future__ import annotations

import json
import mmap
import signal
import socket
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sslterm.access_log import AccessLog
from sslterm.arguments import as_flags
from sslterm.certs import challenge, tickets
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.context import build_client
from sslterm.certs.names import Contexts
from sslterm.relay.loop import Relay
from sslterm.relay.policy import Backend, Policy
from sslterm.relay.tally import Tally
from sslterm.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_STANDARD_OUTPUT: Final = 1
_CHUNK: Final = 65536


def main(argv: Sequence[str]) -> int:
    """Relay as the first process says, until it says stop or is gone; the exit code."""
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(each, signal.SIG_IGN)
    control, memory, row = map(int, argv[:3])
    settings = Settings.resolve(as_flags(argv[3:]) or {}, {})
    with socket.socket(fileno=control) as channel:
        _Worker(channel, settings, memory, row).live()
    return 0


class _Worker:
    def __init__(self, channel: socket.socket, settings: Settings, memory: int, row: int) -> None:
        self._channel = channel
        self._settings = settings
        self._tally = Tally(memoryview(mmap.mmap(memory, 0)), row)
        self._contexts = Contexts(settings.mode, settings.tls_profile, settings.client_auth)
        self._context: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        """The context by which others are called."""
        self._challenge: ssl.SSLContext | None = None
        self._own_uri = ""
        self._received = b""
        self._descriptors: list[int] = []
        # The shared memory is a file, so it can be locked: one worker at a time writes its lines.
        self._access_log: AccessLog | None = None
        if settings.access_log:
            self._access_log = AccessLog(_STANDARD_OUTPUT, settings.log_format, lock=memory)
        self._relay = Relay()
        self._relay.register(channel.fileno(), self._on_order)

    def live(self) -> None:
        """Until told to go."""
        try:
            self._relay.run()
        finally:
            if self._access_log is not None:
                self._access_log.close()
            self._tell({"cut": self._relay.cut})

    def _tell(self, what: dict[str, Any]) -> None:
        with suppress(OSError):  # nobody is there any more, or nobody listens for now: traffic is what matters
            self._channel.sendmsg([json.dumps(what).encode() + b"\n"], (), socket.MSG_DONTWAIT)

    def _report(self, level: str, text: str) -> None:
        self._tell({"say": [level, text]})

    def _on_order(self, _mask: int) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, _CHUNK, 1)
        except ConnectionError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self._relay.unregister(self._channel.fileno())
            self._relay.stop()
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            getattr(self, f"_do_{order.pop('do')}")(**order)

    # The orders.

    def _do_take(self, number: int, keys: str, pairs: list[dict[str, Any]], authorities: str, own_uri: str) -> None:
        """Serve these certificates from now on; the first process has proved them."""
        bundles = tuple(
            Bundle(each["chain"].encode("latin-1"), each["key"].encode("latin-1"), each["source"], each["key_source"])
            for each in pairs
        )
        believed = authorities.encode("latin-1")
        try:
            context = self._contexts.front(Credentials(bundles, believed), [each["hosts"] for each in pairs])
            if self._settings.outbound:
                self._client = build_client(bundles[0], self._settings.tls_profile, believed, "authorities")
        except Rejected as error:
            self._report("ERROR", f"a worker cannot serve the certificate: {error}")
            if self._context is None:  # it would accept clients only to lose them: another may be luckier
                raise SystemExit(1) from None
        else:
            if not tickets.share(context, bytes.fromhex(keys)):
                self._report("WARNING", "workers cannot share session tickets here: some clients will not resume")
            self._context, self._own_uri = context, own_uri
        self._tell({"took": number})

    def _do_challenge(self, number: int, proofs: list[list[str]]) -> None:
        """Answer an ACME server's checks with these from now on, or none any more."""
        self._challenge = challenge.build([challenge.Proof(*each) for each in proofs])
        self._tell({"took": number})

    def _do_serve(self, backends: list[tuple[int, list[Any]]]) -> None:
        """Accept at the listener that came with this order."""
        policy = Policy(
            settings=self._settings,
            context=self._current_context,
            challenge=lambda: self._challenge,
            own_uri=lambda: self._own_uri,
            backends=tuple(Backend(family, tuple(address)) for family, address in backends),
            access_log=self._access_log,
            report=self._report,
            tally=self._tally,
            refused=lambda: self._tell({"refused": True}),
            full=lambda: self._tell({"full": True}),
        )
        self._relay.add(socket.socket(fileno=self._descriptors.pop(0)), policy)

    def _do_call_others(self, number: int) -> None:
        """Accept at the listener that came with this order who calls others, as the setting of this number says."""
        policy = Policy(
            settings=self._settings,
            context=self._current_client,
            outbound=self._settings.outbound[number],
            access_log=self._access_log,
            report=self._report,
            tally=self._tally,
            full=lambda: self._tell({"full": True}),
        )
        self._relay.add(socket.socket(fileno=self._descriptors.pop(0)), policy)

    def _current_client(self) -> ssl.SSLContext:
        if self._client is None:
            raise RuntimeError("no certificate was put into force yet")
        return self._client

    def _current_context(self) -> ssl.SSLContext:
        if self._context is None:
            raise RuntimeError("no certificate was put into force yet")
        return self._context

    def _do_make_room(self) -> None:
        self._relay.make_room()

    def _do_lame_duck(self, seconds: float) -> None:
        self._relay.lame_duck(seconds)

    def _do_drain(self, timeout: float) -> None:
        self._relay.drain(timeout)

    def _do_stop(self) -> None:
        self._relay.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
