"""
Managers tell workers what they know of services: HTTP over mutual TLS, on the network that byfahrers share.

`GET /v1/services?after=MARK` is answered at once if the directory is another one than MARK, or when it becomes one, or
after half a minute, whatever comes first; so a change is everywhere at once, and nothing is sent where nothing
changes. The mark is that of an answer before: another node may have other ideas of what is worth keeping, and thus
another mark for the same. Who is no manager answers 421, and the next one is asked. All are found by one name:
`tasks.<service>`.
"""

from __future__ import annotations

import json
import random
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import parse_qs, urlsplit

import anyio
import h11
from anyio.abc import SocketStream, TaskGroup
from anyio.streams.tls import TLSAttribute, TLSStream
from loguru import logger

from byfahrer.authority.errors import AuthorityError
from byfahrer.model import Service, one_line
from byfahrer.reconcile.backoff import delay
from byfahrer.serving.http import Answer, BadRequest, Exchange, Request
from byfahrer.serving.limits import Seldom
from byfahrer.swarm.directory import Directory, DirectoryError, read
from byfahrer.swarm.identity import Identity, NotOurs

PATH: Final = "/v1/services"
WAIT: Final = 25.0
"""Seconds for which a question may wait for news."""
PATIENCE: Final = 5.0
"""Seconds for a connection, a handshake, and beyond `WAIT` for an answer."""
MOST_STRANGERS: Final = 64
"""Connections at a time whose certificate has not been seen; others wait in the kernel's queue."""
MOST_FROM_ONE: Final = 4
"""Of them, from one address: nobody else is to find no place."""
MOST_WAITING: Final = 512
"""Questions that wait for news at a time: a file descriptor each."""
LARGEST: Final = 16 * 1024**2
"""Bytes of an answer that are read: four times as many as there are characters in a directory."""
BETWEEN: Final = 0.5
"""Seconds between questions at least, whatever is answered."""
ACCEPT_AGAIN: Final = 0.1
TELL_EVERY: Final = 60.0
_MARK: Final = re.compile(r"[0-9a-f]{0,64}", re.ASCII)
ASK_CAP: Final = 5.0
"""Seconds between tries at most while no manager answers."""
_BROKEN: Final = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class Unanswered(Exception):  # noqa: N818 - the next one is asked
    """A peer had no answer; `str()` says why."""


class Server:
    """Answers the byfahrers of other nodes."""

    def __init__(self, identity: Identity, directory: Directory) -> None:
        self._identity = identity
        self._directory = directory
        self._told = Seldom(TELL_EVERY)
        self._strangers = anyio.Semaphore(MOST_STRANGERS)
        self._from: Counter[str] = Counter()
        """How many of them are there from which address."""
        self._waiting = 0

    async def serve(self, port: int, *, started: Callable[[int], None] | None = None) -> None:
        """Until cancelled, on this port of all addresses; OSError if it cannot be had."""
        multi = await anyio.create_tcp_listener(local_port=port)
        async with multi, anyio.create_task_group() as tasks:
            if started:
                started(multi.extra(anyio.abc.SocketAttribute.local_port))
            for listener in multi.listeners:
                tasks.start_soon(self._accept, cast("anyio.abc.SocketListener", listener), tasks)

    async def _accept(self, listener: anyio.abc.SocketListener, tasks: TaskGroup) -> None:
        while True:
            await self._strangers.acquire()
            try:
                stream = await listener.accept()
            except OSError as error:
                # No descriptor is left, or the connection broke before it was taken (accept(2)): both pass.
                self._strangers.release()
                self._complain(f"no connection: {error.strerror or error}")
                await anyio.sleep(ACCEPT_AGAIN)
                continue
            tasks.start_soon(self._hold, stream)

    async def _hold(self, stream: SocketStream) -> None:
        """One connection, from first to last: it ends nothing but itself."""
        async with stream:
            try:
                secured = await self._greet(stream)
                if secured is not None:
                    await self._converse(secured)
            except NotOurs as error:
                self._complain(f"{one_line(str(error), 200)} is no byfahrer")
            except (TimeoutError, *_BROKEN) as error:
                # As a scanner's, or a node's that was given up.
                logger.debug("A connection of another node ended: {!r}", error)
            except AuthorityError as error:
                self._complain(str(error))
            except Exception as error:  # noqa: BLE001 - a bug in one answer leaves the others theirs
                logger.opt(exception=error).error("The answer to another node: a bug of byfahrer")

    async def _greet(self, stream: SocketStream) -> TLSStream | None:
        """Whoever it is has shown who they are; None if too many from there are about to. NotOurs."""
        address = str(stream.extra(anyio.abc.SocketAttribute.remote_address)[0])
        self._from[address] += 1
        try:
            if self._from[address] > MOST_FROM_ONE:
                return None
            with anyio.fail_after(PATIENCE):
                secured = await TLSStream.wrap(
                    stream, server_side=True, ssl_context=self._identity.context(server=True), standard_compatible=False
                )
            self._identity.check(secured.extra(TLSAttribute.ssl_object).getpeercert(binary_form=True))
            return secured
        finally:
            self._strangers.release()
            self._from[address] -= 1
            if not self._from[address]:
                del self._from[address]

    async def _converse(self, secured: TLSStream) -> None:
        with anyio.fail_after(PATIENCE):
            exchange = Exchange()
            try:
                request = await _receive(secured, exchange)
                answer = None
            except BadRequest as error:
                request, answer = None, Answer(status=error.status, content={"error": str(error)})
        if request is not None:
            answer = await self._answer(request)
        if answer is not None:
            with anyio.fail_after(PATIENCE):
                await secured.send(exchange.answer(answer))

    async def _answer(self, request: Request) -> Answer:
        asked = urlsplit(request.path)
        if asked.path != PATH:
            return Answer(status=404, content={"error": f"there is {PATH}"})
        if request.method != "GET":
            return Answer(status=405, content={"error": "expected GET"}, allow="GET")
        known = self._directory
        if not known.manages:
            return Answer(status=421, content={"error": "its engine is no manager"})
        if parse_qs(asked.query).get("after", [""])[0] == known.mark:
            if self._waiting >= MOST_WAITING:
                return Answer(status=503, content={"error": "too many wait here"})
            self._waiting += 1
            try:
                with anyio.move_on_after(WAIT) as waited:
                    await known.changed.wait()
            finally:
                self._waiting -= 1
            if not self._directory.manages:
                return Answer(status=421, content={"error": "its engine is no manager any more"})
            if waited.cancelled_caught:
                return Answer(status=200, content={"unchanged": True})
        return Answer(status=200, content={"mark": known.mark, "services": known.told()})

    def _complain(self, text: str) -> None:
        if self._told.again(text) is not None:
            logger.warning("Refused to tell another node of services: {}", text)


class Client:
    """Keeps this node's directory as managers tell it."""

    def __init__(
        self, identity: Identity, directory: Directory, host: str, port: int, heard: Callable[[], None],
        found: Callable[[str], Awaitable[list[str]]] | None = None,
    ) -> None:  # fmt: skip
        self._identity = identity
        self._directory = directory
        self._host, self._port = host, port
        self._heard = heard
        """Called when there is something new."""
        self._found = found or _addresses
        self._last = ""
        """Who answered last."""
        self._mark = ""
        """Their mark for what they told."""
        self._kept = ""
        """And ours for what became of it: once it is another, our own engine has told more since."""

    async def run(self) -> None:
        """Ask, until cancelled."""
        failures, told = 0, ""
        while True:
            if self._directory.manages:
                failures, told = 0, ""
                await anyio.sleep(1)
                continue
            try:
                await self._ask_around()
            except Unanswered as error:
                failures += 1
                self._last = ""
                # A leader that is elected anew takes some seconds.
                if failures >= 3 and str(error) != told:
                    told = str(error)
                    logger.warning("No manager tells of services: {}; what was known holds", error)
            else:
                if told:
                    logger.info("Managers tell of services again")
                failures, told = 0, ""
            await anyio.sleep(delay(failures, first=BETWEEN, cap=ASK_CAP) if failures else BETWEEN)

    async def _ask_around(self) -> None:
        """Ask one manager after the other until one knows; the one that did before first. Unanswered."""
        try:
            found = await self._found(self._host)
        except OSError as error:
            raise Unanswered(f"{self._host}: {error.strerror or error}") from None
        random.shuffle(found)
        found.sort(key=lambda address: address != self._last)
        reasons: dict[str, str] = {}
        for address in found:
            try:
                # News may be long since due with a manager that was not asked before: no waiting for them.
                same = address == self._last and self._directory.mark == self._kept
                answer = await self._ask(address, self._mark if same else "")
            except Unanswered as error:
                reasons[address] = str(error)
                continue
            if answer is not None and not self._directory.manages:  # else our own engine knows better by now
                self._last, (self._mark, services), before = address, answer, self._directory.mark
                self._directory.hear(services)
                self._kept = self._directory.mark
                if self._directory.mark != before:
                    self._heard()
            return
        others = "; ".join(f"{address}: {reason}" for address, reason in sorted(reasons.items())[:3])
        raise Unanswered(others or f"{self._host} has no addresses")

    async def _ask(self, address: str, after: str) -> tuple[str, dict[str, Service]] | None:
        """
        What the peer at `address` knows, and its mark for that, once it is another than `after`; None if not.

        Unanswered.
        """
        try:
            with anyio.fail_after(PATIENCE):
                stream = await anyio.connect_tcp(address, self._port)
            async with stream:
                with anyio.fail_after(PATIENCE):
                    secured = await TLSStream.wrap(
                        stream, server_side=False, ssl_context=self._identity.context(server=False),
                        standard_compatible=False,
                    )  # fmt: skip
                    self._identity.check(secured.extra(TLSAttribute.ssl_object).getpeercert(binary_form=True))
                with anyio.fail_after(PATIENCE + (WAIT if after else 0)):
                    answer = await _get(secured, f"{PATH}?after={after}")
            if after and answer.get("unchanged") is True:
                return None
            mark = answer.get("mark")
            if not isinstance(mark, str) or not _MARK.fullmatch(mark):
                raise DirectoryError("expected a mark beside the services")
            return mark, read(answer.get("services"))
        except TimeoutError:
            raise Unanswered("no answer in time") from None
        except NotOurs as error:
            raise Unanswered(f"{one_line(str(error), 200)} is no byfahrer") from None
        except (AuthorityError, DirectoryError) as error:
            raise Unanswered(str(error)) from None
        except (*_BROKEN, h11.RemoteProtocolError) as error:
            raise Unanswered(one_line(str(error) or type(error).__name__, 200)) from None


async def _addresses(host: str) -> list[str]:
    found = await anyio.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


async def _receive(stream: TLSStream, exchange: Exchange) -> Request | None:
    while True:
        data = b""
        with suppress(anyio.EndOfStream):
            data = await stream.receive()
        request = exchange.receive(data)
        if request is not None or not data:
            return request


async def _get(stream: TLSStream, target: str) -> dict[str, Any]:
    """The answer to one question, from JSON. Unanswered."""
    connection = h11.Connection(h11.CLIENT)
    head = h11.Request(method="GET", target=target, headers=[("Host", "byfahrer"), ("Connection", "close")])
    await stream.send((connection.send(head) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    body, status = bytearray(), 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = b""
            with suppress(anyio.EndOfStream):
                data = await stream.receive()
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > LARGEST:
                raise Unanswered(f"an answer of more than {LARGEST // 1024**2} MiB")
        elif isinstance(event, h11.EndOfMessage):
            break
        elif isinstance(event, h11.ConnectionClosed):
            raise Unanswered("it went away before its answer was whole")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Unanswered("an answer that is no JSON object")
    if status != 200:
        raise Unanswered(one_line(str(answer.get("error") or f"HTTP {status}"), 200))
    return answer
