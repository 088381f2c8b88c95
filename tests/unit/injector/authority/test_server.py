"""The socket answers whoever has a token, and whatever others send ends nothing but their own connection."""

import json
import os
import socket
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byfahrer.authority import server
from byfahrer.serving import connections
from byfahrer.serving.http import MOST_BODY
from byfahrer.serving.listen import listening
from lab.authority import World, request, spoilt
from lab.waiting import until

pytestmark = pytest.mark.anyio
US = f"{os.geteuid()}"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "authority.sock"


@asynccontextmanager
async def serving(world, path):
    """A server at `path`."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, world.authority, path, US)
        await until(path.exists)
        yield
        tasks.cancel_scope.cancel()


async def talk(path, data, *, end=False):
    """What comes back for these bytes, until the server closes."""
    async with await anyio.connect_unix(path) as stream:
        await stream.send(data)
        if end:
            await stream.send_eof()
        received = b""
        with anyio.fail_after(5):
            try:
                while True:
                    received += await stream.receive()
            except anyio.EndOfStream:
                return received


def ask(method, path, token="", body=b"", *more):
    lines = [f"{method} {path} HTTP/1.1", "Host: authority", *more]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"Content-Length: {len(body)}"] if method == "POST" else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def read(answer):
    """Status and JSON of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_a_sidecar_gets_its_certificate_and_tells_how_it_is(world, path):
    _, _, token = world.target()
    async with serving(world, path):
        status, answer = read(await talk(path, ask("POST", "/v1/certificate", token, request())))
        assert (status, answer["lifetime"]) == (200, 86400)
        assert read(await talk(path, ask("GET", "/v1/authorities", token))) == (
            200, {"authorities": answer["authorities"]},
        )  # fmt: skip
        word = json.dumps({"source": "authority"}).encode()
        assert read(await talk(path, ask("POST", "/v1/status", token, word))) == (200, {"renew": True, "again_in": 10})


async def test_whoever_loses_its_socket_knows(world, path, monkeypatch, said):
    """Somebody empties the folder; the daemon makes it anew."""
    monkeypatch.setattr(server, "LOOK", 0.01)
    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.run, world.authority, path, US)
            await until(path.exists)
            path.unlink()

    assert said == [f"The authority's socket {path} has gone: making it anew"] * 2


async def test_refusals_are_one_line_of_json_with_their_status(world, path):
    _, _, token = world.target()
    cases = {
        400: [
            ask("POST", "/v1/certificate", token, b"x"),
            ask("POST", "/v1/status", token, b"{"),
            b"\0" * 20 + b"\r\n\r\n",
        ],
        401: [
            ask("POST", "/v1/certificate", "x", request()),
            ask("GET", "/v1/authorities"),
            ask("GET", "/v1/authorities", "\u00e4"),
        ],
        403: [ask("POST", "/v1/certificate", token, request("db"))],
        404: [ask("GET", "/", token), ask("GET", "/v1/certificate/", token)],
        405: [ask("GET", "/v1/certificate", token), ask("POST", "/v1/authorities", token)],
        411: [b"POST /v1/status HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"],
        413: [ask("POST", "/v1/certificate", token, b"x" * (MOST_BODY + 1))],
        431: [ask("GET", "/" + "x" * 20_000)],
    }
    async with serving(world, path):
        for status, requests in cases.items():
            for each in requests:
                found, answer = read(await talk(path, each))
                assert (found, list(answer)) == (status, ["error"])
                assert "\n" not in answer["error"]
        for _ in range(30):
            found = await talk(path, ask("POST", "/v1/certificate", token, request()))
        assert found.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 5\r\n" in found


async def test_refusals_are_told_once_with_the_targets_name_and_never_the_token(world, path, said):
    _, _, token = world.target()
    odd = b"GET / HTTP/1.1\r\nAuthorization : Bearer " + token.encode() + b"\r\n\r\n"
    async with serving(world, path):
        for _ in range(5):
            answers = [await talk(path, ask("POST", "/v1/certificate", token, request("db")))]
            answers += [await talk(path, ask("POST", "/v1/certificate", spoilt(token), request("db")))]
            answers += [await talk(path, odd)]

    assert [line for line in said if line.startswith("Refused")] == [
        "Refused the sidecar of 'www': 403 'www' may not have the names db",
        "Refused somebody: 401 this token is none of ours (if the state folder was lost, a new token follows)",
        "Refused somebody: 400 expected one request of HTTP/1.1",
    ]
    assert token.rpartition(".")[2][:-1] not in "\n".join([*said, *map(repr, answers)])


async def test_a_bug_in_one_answer_is_told_and_others_are_served_on(world, path, said):
    _, _, token = world.target()
    authorities = world.authority.authorities
    world.authority.authorities = None
    async with serving(world, path):
        assert await talk(path, ask("GET", "/v1/authorities", token)) == b""
        world.authority.authorities = authorities
        assert (await talk(path, ask("GET", "/v1/authorities", token))).startswith(b"HTTP/1.1 200 ")

    assert [line for line in said if "a bug of byfahrer" in line.lower()]


async def test_who_sends_nothing_is_cut_off_in_time(world, path, monkeypatch):
    monkeypatch.setattr(connections, "WHOLE", 0.05)
    async with serving(world, path):
        assert await talk(path, b"POST /v1/status HTTP/1.1\r\n") == b""


async def test_where_there_are_too_many_the_oldest_makes_room(world, path, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "PATIENCE", 0.01)
    _, _, token = world.target()
    async with serving(world, path):
        idle = [await anyio.connect_unix(path) for _ in range(10)]
        assert (await talk(path, ask("GET", "/v1/authorities", token))).startswith(b"HTTP/1.1 200 ")
        for each in idle[:7]:
            with pytest.raises(anyio.EndOfStream):
                await each.receive()
        for each in idle:
            await each.aclose()


async def test_who_has_an_answer_and_stays_keeps_nobody_out(world, path, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "PATIENCE", 0.01)
    _, _, token = world.target()
    async with serving(world, path):
        stay = [await anyio.connect_unix(path) for _ in range(3)]
        for each in stay:
            await each.send(ask("GET", "/v1/authorities", "x"))
            assert (await each.receive()).startswith(b"HTTP/1.1 401 ")
        assert (await talk(path, ask("GET", "/v1/authorities", token))).startswith(b"HTTP/1.1 200 ")
        for each in stay:
            await each.aclose()


async def test_who_has_asked_is_answered_however_many_come_after(world, path, monkeypatch):
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    _, _, token = world.target()
    asked, go = [], anyio.Event()

    async def slow(token):
        asked.append(token)
        await go.wait()
        return {"n": len(asked)}

    world.authority.authorities = slow
    answers = []

    async def one():
        answers.append(read(await talk(path, ask("GET", "/v1/authorities", token)))[0])

    async with serving(world, path), anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(one)
        await until(lambda: len(asked) == 3)
        await anyio.wait_all_tasks_blocked()
        assert (len(asked), answers) == (3, [])
        go.set()
        await until(lambda: len(answers) == 20)

    assert answers == [200] * 20


async def test_who_waits_to_be_let_on_is_let_on(world, path):
    _, _, token = world.target()
    whole = ask("POST", "/v1/certificate", token, request(), "Expect: 100-continue")
    head, _, body = whole.partition(b"\r\n\r\n")
    async with serving(world, path), await anyio.connect_unix(path) as stream:
        await stream.send(head + b"\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 100 ")
        await stream.send(body)
        assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")


async def test_who_resets_or_leaves_early_harms_nobody(world, path):
    _, _, token = world.target()
    async with serving(world, path):
        for data in (b"", b"POST", ask("POST", "/v1/certificate", token, request())):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.send(data)
        assert (await talk(path, ask("GET", "/v1/authorities", token))).startswith(b"HTTP/1.1 200 ")


async def test_no_descriptor_left_is_told_and_passes(world, path, monkeypatch, said):
    monkeypatch.setattr(connections, "PAUSE", 0.01)
    _, _, token = world.target()

    class Listener:
        def __init__(self, real):
            self.real, self.fails = real, 3

        def fileno(self):
            return self.real.fileno()

        def accept(self):
            self.fails -= 1
            if self.fails >= 0:
                raise OSError(24, "Too many open files")
            return self.real.accept()

    with listening(path, US) as real:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.Server(world.authority, Listener(real)).serve)
            assert (await talk(path, ask("GET", "/v1/authorities", token))).startswith(b"HTTP/1.1 200 ")
            tasks.cancel_scope.cancel()

    assert [line for line in said if "Too many open files" in line] == [
        "The authority's socket: Too many open files; who asks there waits"
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=2000), max_size=5))
async def test_any_bytes_are_answered_or_closed(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("any")
    world = World(folder)
    async with serving(world, folder / "s"):
        answer = await talk(folder / "s", b"".join(pieces), end=True)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
