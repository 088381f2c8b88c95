"""Every request of the adapter is in the list, and the files for people and filters are those of the list."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from byfahrer.engine.address import EngineAddress
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.endpoints import ENDPOINTS, Endpoint, allowed
from byfahrer.engine.errors import EngineError, RejectedError
from byfahrer.engine.interface import Engine
from byfahrer.model import File, SidecarSpec
from tools import socket_proxy

ID = "a" * 64
SERVICE = "b" * 25
IMAGE = f"registry.example.com:5000/tls/sslterm:1.0@sha256:{ID}"
CALLS = {
    "connect": (),
    "ping": (),
    "events": ("0",),
    "containers": ("byfahrer.target",),
    "inspect": ("www",),
    "image_id": (IMAGE,),
    "pull": (IMAGE,),
    "create": ("www-proxy", ID, SidecarSpec(image=IMAGE, user="1:1", memory=2**25), {}),
    "start": (ID,),
    "restart": (ID,),
    "kill": (ID, "SIGUSR1"),
    "stop": (ID, 1),
    "remove": (ID,),
    "rename": (ID, "x"),
    "last_words": (ID,),
    "put_files": (ID, "/run/sslterm", [File(path="token", content=b"x")]),
    "read_file": (ID, "/etc/ssl/cert.pem", 10),
    "services": (),
    "service": (SERVICE,),
}
"""Each method of the interface, with arguments that it sends to the engine."""
CHANGES = {"pull", "create", "start", "restart", "kill", "stop", "remove", "rename", "put_files"}
METHODS = {name for name, each in vars(Engine).items() if callable(each) and not name.startswith("_")}


class Stub(BaseHTTPRequestHandler):
    """An engine that knows everything, and keeps what it was asked for."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        last = path.rpartition("/")[2]
        told = {"Id": ID, "ApiVersion": "1.41", "Image": ID, "Config": {"Labels": {"a": "b"}, "Tty": False}}
        told["message"] = "no"
        body = json.dumps([] if path.endswith("/containers/json") or last == "services" else told).encode()
        self.send_response(503 if "/services/" in path else 404 if last == "archive" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815 - names that the base class asks for

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_each_method_of_the_interface_is_tried_here():
    assert set(CALLS) == METHODS
    assert CHANGES < METHODS


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(CALLS))
async def test_what_a_method_asks_the_engine_is_in_the_list(stub, name):
    engine = DockerEngine(EngineAddress(f"tcp://127.0.0.1:{stub.server_port}"))
    await engine.connect()
    before = len(stub.asked)
    with suppress(EngineError):
        if name == "events":
            async with engine.events(*CALLS[name]):
                pass
        else:
            await getattr(engine, name)(*CALLS[name])

    asked = stub.asked[before:]
    assert asked
    assert [each for each in stub.asked if not allowed(*each)] == []
    # `trust` alone reads files; it changes them too, so who observes need not.
    assert all(allowed(*each, observe=True) for each in asked) == (name not in CHANGES | {"read_file"})


@pytest.mark.anyio
@pytest.mark.parametrize("name", sorted(CHANGES))
async def test_who_looks_only_changes_nothing_whoever_asks_for_it(stub, name):
    engine = DockerEngine(EngineAddress(f"tcp://127.0.0.1:{stub.server_port}"), look_only=True)
    await engine.connect()
    before = list(stub.asked)
    with pytest.raises(RejectedError, match="nothing is changed on this engine by who only observes"):
        await getattr(engine, name)(*CALLS[name])

    assert stub.asked == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v1.41/containers/{ID}/exec"), ("POST", f"/containers/{ID}/attach"), ("POST", "/v1.41/build"),
        ("HEAD", "/_ping"), ("GET", "/v1.41/images/json"), ("DELETE", "/v1.41/images/sslterm"), ("GET", "/secrets"),
        ("POST", "/v1.41/containers/prune"), ("GET", "/containers/../images/json"), ("POST", "/v1.41/images/load"),
        ("GET", "/containers/a%2Fb/json"), ("GET", "/containers/a/b/json"), ("POST", f"/services/{SERVICE}"),
        ("GET", "/v2.0/info"), ("GET", "/x/info"), ("GET", "/info/"), ("GET", f"/images/a%40sha256:{ID}%2e/json"),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_not_in_the_list(method, path):
    assert not allowed(method, path)


def test_nobody_who_observes_may_change_anything():
    assert {each.method for each in ENDPOINTS if each.observe} == {"GET"}
    assert Endpoint("GET", "/info", "").matches("GET", "/v1.41/info")


@pytest.mark.parametrize(
    ("path", "made"),
    [
        (socket_proxy.FULL, socket_proxy.configuration(observe=False)),
        (socket_proxy.OBSERVE, socket_proxy.configuration(observe=True)),
        (socket_proxy.PAGE, socket_proxy.page(socket_proxy.PAGE.read_text())),
    ],
    ids=lambda each: each.name if isinstance(each, Path) else "made",
)
def test_a_generated_file_is_that_of_the_list(path, made):
    assert path.read_text() == made, "run: .venv/bin/python -m tools.socket_proxy"
