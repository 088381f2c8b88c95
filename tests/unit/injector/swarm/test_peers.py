"""
Managers tell workers of services, over real connections with real certificates, and tell nobody else.

Long, because both ends are in it, and each has its own kinds of strangers and failures.
"""

import datetime as dt
import json
import ssl
from contextlib import asynccontextmanager

import anyio
import pytest
from loguru import logger

from byfahrer.authority.ca import OwnRoot
from byfahrer.authority.certificates import key_pem, new_key
from byfahrer.authority.names import Names
from byfahrer.authority.state import StateFolder
from byfahrer.authority.times import utc
from byfahrer.model import Service
from byfahrer.swarm import peers
from byfahrer.swarm.directory import Directory
from byfahrer.swarm.identity import Identity
from byfahrer.swarm.peers import Client, Server, Unanswered

pytestmark = pytest.mark.anyio

WEB = {"web": Service(labels={"byfahrer.mode": "tcp"}, addresses=("10.0.1.2",))}
API = {"api": Service(labels={"byfahrer.mode": "http"})}


@pytest.fixture
def root(tmp_path):
    return OwnRoot(StateFolder(tmp_path / "state"))


@pytest.fixture
def told():
    lines = []
    sink = logger.add(lambda line: lines.append(str(line).rstrip("\n")), format="{message}", level="INFO")
    yield lines
    logger.remove(sink)


@asynccontextmanager
async def manager(root, found=None, node="m1"):
    """A byfahrer on a manager that knows `found`; its directory and port."""
    known, ready = Directory(), anyio.Event()
    if found is not None:
        known.learn(found)
    ports = []

    def started(port):
        ports.append(port)
        ready.set()

    server = Server(Identity(root.issuer, node), known)
    async with anyio.create_task_group() as tasks:

        async def serve():
            await server.serve(0, started=started)

        tasks.start_soon(serve)
        with anyio.fail_after(5):
            await ready.wait()
        yield known, ports[0]
        tasks.cancel_scope.cancel()


def worker(root, port, addresses=("127.0.0.1",), heard=lambda: None, **more):
    async def found(host):
        return list(addresses)

    known = Directory()
    return known, Client(Identity(root.issuer, "w1"), known, "tasks.byfahrer", port, heard, more.get("found", found))


@asynccontextmanager
async def running(client):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        yield
        tasks.cancel_scope.cancel()


async def becomes(condition):
    for _ in range(1000):
        if condition():
            return
        await anyio.sleep(0.01)
    raise AssertionError("it did not come true")


async def test_a_worker_knows_what_a_manager_knows_and_hears_of_changes(root):
    heard = []
    async with manager(root, WEB) as (there, port):
        known, client = worker(root, port, heard=lambda: heard.append(1))
        async with running(client):
            await becomes(lambda: known.service("web") == WEB["web"])
            there.learn(API)
            await becomes(lambda: known.service("web") is None)

    assert known.service("api") == API["api"]
    assert not known.manages
    assert len(heard) == 2


async def test_where_nothing_changes_nothing_is_sent_for_a_while(root, monkeypatch):
    monkeypatch.setattr(peers, "WAIT", 0.2)
    heard = []
    async with manager(root, WEB) as (_, port):
        _, client = worker(root, port, heard=lambda: heard.append(1))
        await client._ask_around()
        with anyio.fail_after(5):
            await client._ask_around()
            assert await client._ask("127.0.0.1", client._mark) is None

    assert heard == [1]


async def test_nodes_that_keep_other_labels_do_not_ask_each_other_without_a_pause(root, monkeypatch):
    """In an update with another --only-label, each has another idea of what there is to know."""
    monkeypatch.setattr(peers, "BETWEEN", 0.0)
    more = {"web": Service(labels={"byfahrer.mode": "tcp", "team": "a"})}
    async with manager(root) as (there, port):
        there._more = frozenset(["team"])
        there.learn(more)
        known, client = worker(root, port)
        asked = []
        real = client._ask

        async def ask(address, after):
            asked.append(after)
            return await real(address, after)

        client._ask = ask
        async with running(client):
            await becomes(lambda: known.service("web") == Service(labels={"byfahrer.mode": "tcp"}))
            await anyio.sleep(0.2)

    assert asked == ["", there.mark]
    assert known.mark != there.mark


async def test_a_manager_that_is_none_any_more_asks_for_all_that_it_has_missed(root):
    """What it knew when it was asked to wait for news, its own engine has changed since."""
    async with manager(root, WEB) as (_, port):
        known, client = worker(root, port)
        await client._ask_around()
        known.learn(API)
        await client._ask_around()  # as it had begun before: its own engine knows better
        assert dict(known.services()) == API
        known.missed()
        with anyio.fail_after(4):
            await client._ask_around()

    assert dict(known.services()) == WEB


async def test_who_waits_at_a_manager_that_is_none_any_more_asks_another(root):
    async with manager(root, WEB) as (there, port):
        known, client = worker(root, port)
        await client._ask_around()
        async with anyio.create_task_group() as tasks:

            async def wait():
                with pytest.raises(Unanswered, match="no manager any more"):
                    await client._ask_around()

            tasks.start_soon(wait)
            await anyio.sleep(0.1)
            there.missed()

    assert known.service("web") == WEB["web"]


async def test_a_connection_that_cannot_be_accepted_ends_nothing(root, told, monkeypatch):
    monkeypatch.setattr(peers, "ACCEPT_AGAIN", 0.01)
    monkeypatch.setattr(peers, "MOST_STRANGERS", 1)
    failures = [OSError(24, "Too many open files"), OSError(103, "Software caused connection abort")] * 2
    real = anyio._backends._asyncio.TCPSocketListener.accept

    async def accept(self):
        if failures:
            raise failures.pop()
        return await real(self)

    monkeypatch.setattr(anyio._backends._asyncio.TCPSocketListener, "accept", accept)
    async with manager(root, WEB) as (_, port):
        known, client = worker(root, port)
        await client._ask_around()

    assert failures == []
    assert known.service("web") == WEB["web"]
    assert told == [
        "Refused to tell another node of services: no connection: Software caused connection abort",
        "Refused to tell another node of services: no connection: Too many open files",
    ]


async def test_one_address_cannot_take_all_places_with_its_silence(root, monkeypatch):
    monkeypatch.setattr(peers, "MOST_STRANGERS", 8)
    async with manager(root, WEB) as (_, port):
        silent = [await anyio.connect_tcp("127.0.0.2", port, local_host="127.0.0.2") for _ in range(40)]
        known, client = worker(root, port)
        with anyio.fail_after(4):  # less than the silent ones are waited for
            await client._ask_around()
        for each in silent:
            await each.aclose()

    assert known.service("web") == WEB["web"]


async def test_there_is_an_end_to_those_who_wait(root, monkeypatch):
    monkeypatch.setattr(peers, "MOST_WAITING", 0)
    async with manager(root, WEB) as (_, port):
        known, client = worker(root, port)
        await client._ask_around()
        with pytest.raises(Unanswered, match="too many wait here"):
            await client._ask_around()

    assert known.service("web") == WEB["web"]


async def test_a_manager_that_restarts_is_asked_again(root, told):
    async with manager(root, WEB) as (_, port):
        known, client = worker(root, port)
        await client._ask_around()
    with pytest.raises(Unanswered, match=r"127\.0\.0\.1: "):
        await client._ask_around()

    assert known.service("web") == WEB["web"]


async def test_who_is_no_manager_says_so_and_the_next_one_is_asked(root):
    async with manager(root, WEB) as (_, port), manager(root) as (_, other):
        known, client = worker(root, port)
        asked = []
        real = client._ask

        async def ask(address, after):
            asked.append(address)
            client._port = {"127.0.0.1": port, "127.0.0.2": other}[address]
            return await real("127.0.0.1", after)

        client._ask = ask

        async def found(host):
            return ["127.0.0.2", "127.0.0.1", "127.0.0.2"]

        client._found = found
        for _ in range(5):
            await client._ask_around()
            client._mark = ""

    assert known.service("web") == WEB["web"]
    assert asked[-1] == "127.0.0.1"
    async with manager(root) as (_, port):
        with pytest.raises(Unanswered, match="no manager"):
            await worker(root, port)[1]._ask_around()


async def test_no_manager_is_told_once_and_their_return_too(root, told, monkeypatch):
    monkeypatch.setattr(peers, "delay", lambda *args, **more: 0.01)
    away = [True]

    async def found(host):
        if away:
            raise OSError(2, "Name or service not known")
        return ["127.0.0.1"]

    async with manager(root, WEB) as (_, port):
        known, client = worker(root, port, found=found)
        async with running(client):
            await becomes(lambda: told)
            await anyio.sleep(0.1)
            away.clear()
            await becomes(lambda: known.service("web") == WEB["web"])
            await becomes(lambda: len(told) == 2)

    assert told == [
        "No manager tells of services: tasks.byfahrer: Name or service not known; what was known holds",
        "Managers tell of services again",
    ]


async def test_one_with_another_authority_is_believed_by_nobody(root, tmp_path, told):
    stranger = OwnRoot(StateFolder(tmp_path / "other"))
    async with manager(stranger, WEB) as (_, port):
        known, client = worker(root, port)
        with pytest.raises(Unanswered, match="certificate verify failed"):
            await client._ask_around()

    assert dict(known.services()) == {}


@pytest.mark.parametrize("side", ["server", "client"])
async def test_a_target_or_a_person_is_no_byfahrer(root, told, side):
    """They have certificates of the same authority."""

    class Other(Identity):
        def context(self, *, server):
            spiffe = "spiffe://byfahrer.internal/ns/byfahrer/svc/m1"
            return context(root, Names(spiffe=spiffe, dns=("byfahrer",)), server=server)

    known = Directory()
    known.learn(WEB)
    mine, others = Identity(root.issuer, "n"), Other(root.issuer, "n")
    ready, ports = anyio.Event(), []
    server = Server(mine if side == "client" else others, known)

    def started(port):
        ports.append(port)
        ready.set()

    async with anyio.create_task_group() as tasks:

        async def serve():
            await server.serve(0, started=started)

        tasks.start_soon(serve)
        await ready.wait()
        client = worker(root, ports[0])[1]
        client._identity = others if side == "client" else mine
        with pytest.raises(Unanswered):
            await client._ask_around()
        tasks.cancel_scope.cancel()

    assert dict(client._directory.services()) == {}
    if side == "client":
        assert "spiffe://byfahrer.internal/ns/byfahrer/svc/m1 is no byfahrer" in told[0]


def context(root, names, *, server):
    """TLS with any names of this authority."""
    import tempfile

    key = new_key()
    issued = root.issuer().issue(key.public_key(), names, dt.timedelta(hours=1), utc())
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.load_verify_locations(cadata=root.issuer().authorities)
    made.verify_mode = ssl.CERT_REQUIRED
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(key_pem(key) + issued.chain)
        file.flush()
        made.load_cert_chain(file.name)
    return made


async def ask(root, port, text):
    """The answer to these bytes from a byfahrer's own connection."""
    identity = Identity(root.issuer, "w1")
    stream = await anyio.connect_tcp(
        "127.0.0.1", port, tls=True, ssl_context=identity.context(server=False), tls_standard_compatible=False
    )
    async with stream:
        await stream.send(text)
        answer = b""
        try:
            while True:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return answer


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"GET /v1/services HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /v1/services?after=x&after=y HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
    ],
)
async def test_bad_questions_get_answers_and_the_next_one_is_answered(root, text, status):
    async with manager(root, WEB) as (_, port):
        answers = [await ask(root, port, text) for _ in range(2)]

    assert [each.split(b" ")[1] for each in answers] == [status, status]


async def test_noise_before_the_handshake_ends_nothing(root, told):
    async with manager(root, WEB) as (_, port):
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03", b""):
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                if noise:
                    await stream.send(noise)
        known, client = worker(root, port)
        await client._ask_around()

    assert known.service("web") == WEB["web"]
    assert told == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"services": {}}',
        b'{"mark": 1, "services": {}}',
        b"{}",
        b'{"unchanged": true}',
        b"[" * 100_000,
    ],
)
async def test_an_answer_that_makes_no_sense_changes_nothing(root, body):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with answering(root, head + body) as port:
        known, client = worker(root, port)
        known.hear(WEB)
        with pytest.raises(Unanswered):
            await client._ask_around()

    assert dict(known.services()) == WEB


async def test_an_answer_that_is_cut_short_changes_nothing(root):
    body = json.dumps({"services": {}}).encode()
    async with answering(root, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + body) as port:
        known, client = worker(root, port)
        known.hear(WEB)
        with pytest.raises(Unanswered):
            await client._ask_around()

    assert dict(known.services()) == WEB


@asynccontextmanager
async def answering(root, answer):
    """Something that has a byfahrer's certificate and answers this to whatever comes."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    identity = Identity(root.issuer, "m1")

    async def hold(stream):
        async with await peers.TLSStream.wrap(
            stream, server_side=True, ssl_context=identity.context(server=True), standard_compatible=False
        ) as secured:
            await secured.receive()
            await secured.send(answer)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hold)
        yield port
        tasks.cancel_scope.cancel()


async def test_after_a_rotation_old_and_new_certificates_get_on(root, tmp_path):
    other = OwnRoot(StateFolder(tmp_path / "state"))
    before = other.issuer()
    root.rotate()
    late = Identity(lambda: before, "w1")  # who has not heard of it yet
    async with manager(root, WEB) as (_, port):
        known, client = worker(root, port)
        client._identity = late
        await client._ask_around()

    assert known.service("web") == WEB["web"]


def test_a_certificate_is_made_anew_at_half_of_its_life_and_after_a_rotation(root):
    now = [utc()]
    identity = Identity(root.issuer, "../x", now=lambda: now[0])
    first = identity.context(server=True)
    assert identity.context(server=True) is first
    assert identity.context(server=False) is not first
    now[0] += dt.timedelta(hours=13)
    second = identity.context(server=True)
    assert second is not first
    root.rotate()

    assert identity.context(server=True) is not second
