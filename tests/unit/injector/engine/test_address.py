"""Where the engine is, and what people are told when it is not there."""

import contextlib
import errno
import gc
import socket
import ssl
import threading

import anyio
import pytest
import requests
from docker.errors import APIError, DockerException, NotFound

from byfahrer.engine.address import EngineAddress, mapped
from byfahrer.engine.client import DockerEngine
from byfahrer.engine.errors import (
    AddressError,
    ConflictError,
    EngineError,
    NotFoundError,
    RejectedError,
    UnreachableError,
)
from byfahrer.model import NO_SERVICE


def told(error):
    """What `error`, raised by the SDK, is told as."""
    with pytest.raises(EngineError) as caught, mapped("unix:///s"):
        raise error
    assert "\n" not in str(caught.value)
    return caught.value


def answer(status, text="why"):
    response = requests.Response()
    response.status_code = status
    return APIError("x", response=response, explanation=text)


class TestAddress:
    def test_a_flag_wins_over_the_environment_and_that_over_the_default(self):
        environ = {"DOCKER_HOST": "tcp://h:1", "DOCKER_API_VERSION": "1.40"}

        assert EngineAddress.resolve("unix:///f", environ).host == "unix:///f"
        assert EngineAddress.resolve("", environ) == EngineAddress("tcp://h:1", None, "1.40")
        assert EngineAddress.resolve("", {"DOCKER_HOST": ""}) == EngineAddress(
            "unix:///var/run/docker.sock", None, "auto"
        )

    @pytest.mark.parametrize("host", ["foo", "foo://x", "ssh://h", "npipe:////./pipe/x", "tcp://h:port"])
    def test_nonsense_is_named(self, host):
        with pytest.raises(AddressError, match=r"DOCKER_HOST=.*: expected unix:///path"):
            EngineAddress.resolve("", {"DOCKER_HOST": host})

    def test_tls_needs_its_files(self, tmp_path):
        environ = {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
        with pytest.raises(AddressError, match=r"DOCKER_CERT_PATH=.*: expected a folder with cert.pem"):
            EngineAddress.resolve("", environ)
        for name in ("cert.pem", "key.pem", "ca.pem"):
            (tmp_path / name).touch()

        tls = EngineAddress.resolve("", environ).tls
        assert (tls.verify, tls.ca_cert) == (True, str(tmp_path / "ca.pem"))

    def test_a_folder_of_certificates_alone_means_no_tls_as_for_dockers_own_client(self, tmp_path):
        environ = {"DOCKER_HOST": "tcp://h:2376", "DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": str(tmp_path)}
        for name in ("cert.pem", "key.pem"):
            (tmp_path / name).touch()

        assert EngineAddress.resolve("", environ).tls is None

    def test_a_socket_needs_no_tls(self):
        environ = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"}

        assert EngineAddress.resolve("unix:///s", environ).tls is None


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [(404, NotFoundError), (409, ConflictError), (400, RejectedError), (500, RejectedError), (503, RejectedError)],
    )
    def test_what_the_engine_said_no_to_goes_by_its_status(self, status, kind):
        assert type(told(answer(status))) is kind

    def test_a_no_keeps_its_status_and_its_reason_in_one_line(self):
        error = told(answer(500, "two\nlines"))

        assert (error.status, error.message) == (500, "two lines")

    def test_a_page_for_browsers_is_told_by_its_words(self):
        page = "\n<html><body><h1>403 Forbidden</h1>\nRequest forbidden.</body></html>"

        assert told(answer(403, page)).message == "403 Forbidden Request forbidden."
        assert told(answer(500, "no such thing: <none>")).message == "no such thing: <none>"

    @pytest.mark.parametrize(
        ("number", "says"),
        [
            (errno.EACCES, "no permission to use the engine at unix:///s"),
            (errno.ENOENT, "no engine at unix:///s"),
            (errno.ECONNREFUSED, "nobody listens at unix:///s"),
            (errno.EHOSTUNREACH, "the engine at unix:///s cannot be reached"),
        ],
    )
    def test_the_cause_is_found_wherever_the_libraries_hide_it(self, number, says):
        cause = OSError(number, "text that may change")
        in_arguments = requests.ConnectionError(("Connection aborted.", cause))
        wrapped = DockerException("Error while fetching server API version")
        wrapped.__cause__ = in_arguments

        for error in (cause, in_arguments, wrapped):
            found = told(error)
            assert type(found) is UnreachableError
            assert str(found).startswith(says)

    def test_time_and_tls_are_named(self):
        assert "no answer in time" in str(told(requests.ReadTimeout("x")))
        assert "TLS with the engine" in str(told(requests.exceptions.SSLError(ssl.SSLError(1, "bad"))))

    def test_our_own_errors_and_bugs_pass(self):
        with pytest.raises(ConflictError), mapped("x"):
            raise ConflictError("mine")
        with pytest.raises(ZeroDivisionError), mapped("x"):
            raise ZeroDivisionError

    def test_not_found_of_any_kind_is_not_found(self):
        response = requests.Response()
        response.status_code = 404

        assert type(told(NotFound("x", response=response))) is NotFoundError


class FakeEngine:
    """A socket that redirects whoever asks, or answers without end."""

    def __init__(self, path):
        self.where = f"unix://{path}"
        self.endless = False
        self.asked = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while not self._done.is_set():
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                self.asked.append(peer.recv(65536).split()[1].decode())
                if not self.endless:
                    peer.sendall(
                        b"HTTP/1.1 301 Moved\r\nLocation: /v1.41/elsewhere\r\n"
                        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                    continue
                peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not self._done.wait(0.1):
                    peer.sendall(b"1\r\n \r\n")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
class TestRealSockets:
    @pytest.fixture(autouse=True)
    def _collect(self):
        """The SDK forgets a socket that does not connect: it goes here, where that is no error."""
        yield
        gc.collect()

    def test_a_socket_that_is_not_there(self, tmp_path):
        engine = DockerEngine(EngineAddress(f"unix://{tmp_path}/none.sock"))
        with pytest.raises(UnreachableError, match="no engine at"):
            anyio.run(engine.connect)

    def test_a_socket_on_which_nobody_listens(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "dead.sock"))
        engine = DockerEngine(EngineAddress(f"unix://{tmp_path}/dead.sock"))
        with pytest.raises(UnreachableError, match="nobody listens at"):
            anyio.run(engine.connect)

    def test_an_engine_that_hangs_is_given_up(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(str(tmp_path / "mute.sock"))
            mute.listen()
            engine = DockerEngine(EngineAddress(f"unix://{tmp_path}/mute.sock"), call_timeout=1)
            with pytest.raises(UnreachableError, match="no answer in time"):
                anyio.run(engine.connect)

    def test_something_that_is_no_engine(self, tmp_path):
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other.sock"))
            other.listen()

            def talk():
                peer, _ = other.accept()
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                peer.close()

            thread = threading.Thread(target=talk)
            thread.start()
            engine = DockerEngine(EngineAddress(f"unix://{tmp_path}/other.sock"), call_timeout=2)
            with pytest.raises(UnreachableError, match="cannot be reached"):
                anyio.run(engine.connect)
            thread.join()

    @pytest.fixture
    def engine(self, tmp_path):
        """Answers every request with `answers(path)`; the paths asked for are in `asked`."""
        with FakeEngine(str(tmp_path / "fake.sock")) as fake:
            yield fake

    def test_an_answer_that_never_ends_is_given_up_as_a_whole(self, engine):
        engine.endless = True
        client = DockerEngine(EngineAddress(engine.where, api_version="1.41"), call_timeout=1)

        async def ask():
            client._client = client._session("1.41")
            with anyio.fail_after(10):
                await client.inspect("www")

        with pytest.raises(UnreachableError, match="no answer in time"):
            anyio.run(ask)

    def test_redirects_are_refused(self, engine):
        client = DockerEngine(EngineAddress(engine.where, api_version="1.41"), call_timeout=1)

        async def ask():
            client._client = client._session("1.41")
            await client.inspect("www")

        with pytest.raises(RejectedError, match="redirects"):
            anyio.run(ask)
        assert engine.asked == ["/v1.41/containers/www/json"]

    @pytest.mark.parametrize("text", ["../info", "x/../../events", "", ".", "a" * 24, "a" * 25 + "/", "A" * 25, "%2e"])
    def test_what_is_no_name_never_reaches_the_engine(self, engine, text):
        client = DockerEngine(EngineAddress(engine.where, api_version="1.41"), call_timeout=1)

        async def ask():
            client._client = client._session("1.41")
            assert await client.service(text) == NO_SERVICE
            if not text.startswith(("a", "A")):
                with pytest.raises(NotFoundError):
                    await client.inspect(text)

        anyio.run(ask)
        assert engine.asked == []

    def test_nothing_is_asked_before_it_is_connected(self):
        engine = DockerEngine(EngineAddress())
        with pytest.raises(UnreachableError, match="not connected"):
            anyio.run(engine.containers)
