"""What the engine says of a pull, and which credentials go with it: nothing of them shows, whatever is wrong."""

import base64
import json
import stat
import threading
import time
from types import SimpleNamespace

import anyio
import pytest
from docker.errors import NotFound
from urllib3.exceptions import ProtocolError

from byfahrer.engine import pull
from byfahrer.engine.address import EngineAddress
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.errors import AddressError, PullError, UnreachableError

IMAGE = "registry.example:5000/shop/sslterm"
SECRET = "s3cret-passw0rd"


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where Docker's configuration is looked for."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def configured(folder):
    def write(content):
        (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))

    return write


def helper(folder, monkeypatch, name, script):
    """A credential helper in PATH."""
    path = folder / "bin" / f"docker-credential-{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


class Engine:
    """The SDK's client, as far as a pull uses it."""

    def __init__(self, *lines, here=True, raises=None):
        self.lines, self.here, self.raises = lines, here, raises
        self.asked = None

    def pull(self, repository, *, tag, stream, decode, auth_config):
        self.asked = (repository, tag, auth_config)
        if self.raises:
            raise self.raises
        return iter(self.lines)

    def inspect_image(self, image):
        if not self.here:
            raise NotFound("no such image", response=SimpleNamespace(status_code=404), explanation="No such image")


def fails(engine, image=IMAGE):
    with pytest.raises(PullError) as caught:
        pull.pull(engine, image, lambda: True)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    return str(caught.value)


class TestCredentials:
    def test_those_of_the_registry_are_taken(self, configured):
        configured({"auths": {"registry.example:5000": {"auth": encoded(f"joe:{SECRET}")}, "other": {}}})
        found = pull.credentials(IMAGE)

        assert (found.known["username"], found.known["password"]) == ("joe", SECRET)
        assert found.said.startswith("with the credentials for registry.example:5000 in /")
        assert SECRET not in repr(found)

    def test_the_registry_of_a_name_without_one_is_dockers(self, configured):
        configured({"auths": {"https://index.docker.io/v1/": {"auth": encoded(f"joe:{SECRET}")}}})

        assert pull.credentials("sslterm").known["password"] == SECRET
        assert pull.credentials("joe/sslterm:1").known["password"] == SECRET

    def test_others_are_not(self, configured):
        configured({"auths": {"registry.example": {"auth": encoded(f"joe:{SECRET}")}}})
        found = pull.credentials(IMAGE)

        assert not found.known
        assert found.said.startswith("no credentials for registry.example:5000 in /")

    def test_without_a_configuration_there_are_none(self, folder):
        found = pull.credentials(IMAGE)

        assert (dict(found.known), found.said) == (
            {}, "no credentials for registry.example:5000: there is no ~/.docker/config.json",
        )  # fmt: skip

    def test_a_helper_is_asked(self, folder, configured, monkeypatch):
        answer = json.dumps({"ServerURL": "x", "Username": "joe", "Secret": SECRET})
        helper(folder, monkeypatch, "mine", f"cat > {folder}/asked; echo '{answer}'")
        configured({"credHelpers": {"registry.example:5000": "mine"}})
        found = pull.credentials(IMAGE)

        assert (found.known["Username"], found.known["Password"]) == ("joe", SECRET)
        assert found.said == "with the credentials for registry.example:5000 of docker-credential-mine"
        assert (folder / "asked").read_text() == "registry.example:5000"

    def test_a_helper_that_fails_says_nothing_of_its_words(self, folder, configured, monkeypatch):
        helper(folder, monkeypatch, "mine", f"echo {SECRET}; exit 1")
        configured({"credsStore": "mine"})
        found = pull.credentials(IMAGE)

        assert (dict(found.known), found.said) == ({}, "no credentials: docker-credential-mine failed")

    def test_a_helper_that_is_not_there_is_named(self, folder, configured, monkeypatch):
        monkeypatch.setenv("PATH", str(folder))
        configured({"credsStore": "nowhere"})

        assert pull.credentials(IMAGE).said.endswith("names docker-credential-nowhere, which is not in PATH")

    def test_one_that_cannot_be_read_is_said(self, folder):
        (folder / "config.json").mkdir()

        assert pull.credentials(IMAGE).said.endswith("/config.json: Is a directory")


BROKEN = [
    {"auths": {"registry.example:5000": {"auth": "@@"}}},
    {"auths": {"registry.example:5000": {"auth": encoded("nobody")}}},
    {"auths": {"registry.example:5000": {"auth": base64.b64encode(b"\xff:\xfe").decode()}}},
    {"auths": {"registry.example:5000": "x"}},
    {"auths": [SECRET]},
    [SECRET],
    {"proxies": [SECRET]},
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_configuration_is_one_line_and_no_traceback(configured, content):
    configured(content)
    with pytest.raises(AddressError) as caught:
        pull.check_configuration()

    assert "/config.json: expected Docker's client configuration" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", [c for c in BROKEN if c != {"proxies": [SECRET]}])
def test_a_pull_goes_without_credentials_where_they_are_broken_and_says_so_if_it_fails(configured, content):
    configured(content)
    engine = Engine()
    pull.pull(engine, IMAGE, lambda: True)

    assert engine.asked == (IMAGE, None, {})
    assert fails(Engine({"error": "denied"})).endswith("/config.json is broken)")


@pytest.mark.parametrize("content", ["", "{", "{}", "null", '{"auths": {}}', "user = x\n"])
def test_an_empty_or_old_one_is_no_obstacle(configured, content):
    configured(content)
    if content == "null":
        with pytest.raises(AddressError):
            pull.check_configuration()
    else:
        pull.check_configuration()

    assert not pull.credentials(IMAGE).known


class TestStream:
    @pytest.fixture(autouse=True)
    def _nowhere(self, folder):
        pass

    def test_it_ends_well(self):
        engine = Engine({"status": "Pulling from x"}, {"status": "Download", "progressDetail": {}}, "?", {"error": ""})
        heard = []
        pull.pull(engine, f"{IMAGE}:1.2", lambda: heard.append(1) or True)

        assert engine.asked == (IMAGE, "1.2", {})
        assert len(heard) == 4

    def test_a_digest_is_asked_for_as_one(self):
        digest = "sha256:" + "a" * 64
        engine = Engine()
        pull.pull(engine, f"{IMAGE}@{digest}", lambda: True)

        assert engine.asked[:2] == (IMAGE, digest)

    @pytest.mark.parametrize(
        "line",
        [
            {"error": "no basic\nauth\x1b[2J", "errorDetail": {"message": "no basic\nauth\x1b[2J"}},
            {"errorDetail": {"message": "no basic\nauth\x1b[2J"}},
            {"error": "no basic\nauth\x1b[2J", "errorDetail": "x"},
        ],
    )
    def test_an_error_inside_of_a_200_is_an_error(self, line):
        text = fails(Engine({"status": "Pulling"}, line))

        assert text == (
            r"no basic auth\x1b[2J (no credentials for registry.example:5000: there is no ~/.docker/config.json)"
        )

    def test_an_error_of_many_words_is_cut(self):
        assert len(fails(Engine({"error": "x" * 10_000}))) < 500

    def test_an_error_at_once_is_the_same(self):
        refused = NotFound("x", response=SimpleNamespace(status_code=404), explanation="pull access denied")

        assert fails(Engine(raises=refused)).startswith("pull access denied (no credentials for")

    def test_a_stream_that_breaks_off_in_silence_is_no_success(self):
        assert fails(Engine({"status": "Pulling"}, here=False)).startswith("No such image")

    def test_a_stream_that_breaks_is_the_engines_fault(self):
        with pytest.raises(UnreachableError):
            pull.pull(Engine(raises=ProtocolError("cut")), IMAGE, lambda: True)

    def test_it_is_left_when_nobody_waits_any_more(self):
        lines = iter([{"status": "one"}, {"status": "two"}, {"error": "never read"}])
        engine = Engine(here=False)
        engine.lines = lines
        pull.pull(engine, IMAGE, lambda: False)

        assert next(lines) == {"status": "two"}


class TestAdapter:
    """The pull that takes its time, in a thread beside the loop."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    def adapter(self, monkeypatch):
        made = DockerEngine(EngineAddress())
        monkeypatch.setattr(made, "_session", lambda *_: SimpleNamespace(close=lambda: None))
        return made

    async def test_one_that_says_nothing_any_more_has_failed(self, adapter, monkeypatch):
        over = threading.Event()
        monkeypatch.setattr(pull, "STALLED", 0.2)
        monkeypatch.setattr(pull, "pull", lambda client, image, goes_on: over.wait(10))
        with pytest.raises(PullError, match="nothing came for"):
            await adapter.pull(IMAGE)
        over.set()

    async def test_one_that_goes_on_may_take_longer(self, adapter, monkeypatch):
        told = []

        def slowly(client, image, goes_on):
            for _ in range(8):
                time.sleep(0.1)
                told.append(goes_on())

        monkeypatch.setattr(pull, "STALLED", 0.4)
        monkeypatch.setattr(pull, "pull", slowly)
        await adapter.pull(IMAGE)

        assert told == [True] * 8

    async def test_one_that_trickles_has_failed_in_the_end(self, adapter, monkeypatch):
        left = threading.Event()

        def trickle(client, image, goes_on):
            for _ in range(1000):
                time.sleep(0.01)
                if not goes_on():
                    left.set()
                    return

        monkeypatch.setattr(pull, "LONGEST", 0.3)
        monkeypatch.setattr(pull, "pull", trickle)
        with pytest.raises(PullError, match="it was not complete after"):
            await adapter.pull(IMAGE)

        assert await anyio.to_thread.run_sync(left.wait, 10)

    async def test_one_that_is_cancelled_is_left_at_its_next_word(self, adapter, monkeypatch):
        left = threading.Event()

        def for_ever(client, image, goes_on):
            for _ in range(1000):
                time.sleep(0.01)
                if not goes_on():
                    left.set()
                    return

        monkeypatch.setattr(pull, "pull", for_ever)
        with anyio.move_on_after(0.1) as scope:
            await adapter.pull(IMAGE)

        assert scope.cancelled_caught
        assert await anyio.to_thread.run_sync(left.wait, 10)
