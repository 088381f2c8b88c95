"""One request and its answer: every oddity is `Rejected`, and nothing waits for longer than it was told."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.certs import exchange as module
from sslterm.certs.bundle import Rejected
from sslterm.certs.exchange import Answer, exchange

REQUEST = b"GET / HTTP/1.1\r\nAuthorization: Bearer secret\r\n\r\n"


@contextmanager
def server(path, *pieces):
    """Reads one request, sends the pieces, closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def run():
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                for piece in pieces:
                    client.sendall(piece)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join(10)
        assert not thread.is_alive()


def ask(path, timeout=10.0):
    return anyio.run(exchange, path, REQUEST, timeout)


def test_an_answer_in_pieces(tmp_path):
    path = tmp_path / "s"
    whole = b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\ncontent-length:2\r\n\r\n{}"
    with server(path, *(bytes([each]) for each in whole)):
        assert ask(path) == Answer(429, b"{}", 7.0)


def test_without_a_length_the_end_is_the_end(tmp_path):
    path = tmp_path / "s"
    with server(path, b"HTTP/1.1 200 OK\r\n\r\n", b"all", b" of it"):
        assert ask(path) == Answer(200, b"all of it", 0.0)


@pytest.mark.parametrize("pause", [b"soon", b"Wed, 25 Nov 2026 00:00:00 GMT", b"-1", b"1e9", b"9999999"])
def test_a_retry_after_that_is_no_number_of_seconds_is_none(tmp_path, pause):
    path = tmp_path / "s"
    with server(path, b"HTTP/1.1 503 Busy\r\nRetry-After: " + pause + b"\r\n\r\n"):
        assert ask(path).retry_after == 0


ODD = {
    b"": "the connection ended with no answer",
    b"HTTP/1.1 200": "the answer broke off within its head",
    b"HTTP/1.0 200 OK\r\n\r\n": "the answer is not HTTP/1.1",
    b"HTTP/1.1 100 Continue\r\n\r\n": "the answer is not HTTP/1.1",
    b"HTTP/1.1 999 What\r\n\r\n": "the answer is not HTTP/1.1",
    b"SSH-2.0-OpenSSH\r\n\r\n": "the answer is not HTTP/1.1",
    b"HTTP/1.1 200 OK\r\nno field\r\n\r\n": "the head of the answer has a line that is no field",
    b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n": "the head of the answer has a line that is no field",
    b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n": "the head of the answer has a line that is no field",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx": "the answer says its length twice",
    b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx": "the answer's Content-Length is no number",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nx": "the answer has 99999999 bytes, and 1048576 are the most",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx": "the answer has fewer bytes than the 2 it says",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx": "the answer has more bytes than the 0 it says",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx": "the answer has a Transfer-Encoding, "
    "which was not asked for",
}


@pytest.mark.parametrize(("answer", "reason"), ODD.items())
def test_every_oddity_is_rejected(tmp_path, answer, reason):
    path = tmp_path / "s"
    with server(path, answer), pytest.raises(Rejected) as error:
        ask(path)

    assert str(error.value) == reason


@given(st.binary(max_size=200), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "]))
def test_any_head_is_read_or_rejected(data, before):
    try:
        status, fields = module._head(before + data)
        length = module._length(fields)
    except Rejected:
        return
    assert 200 <= status < 600
    assert length is None or 0 <= length <= 1024 * 1024


def test_nobody_there():
    with pytest.raises(Rejected, match=r"there is no such socket \(is byfahrer running\?\)"):
        ask(Path("/nowhere/at/all"))


def test_a_socket_that_nobody_listens_on(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(Rejected, match=r"nobody answers at the socket"):
        ask(path)


def test_a_path_that_is_too_long(tmp_path):
    with pytest.raises(Rejected, match="too long"):
        ask(tmp_path / ("x" * 120))


def test_one_that_hangs_and_one_with_a_full_queue(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        with pytest.raises(Rejected, match=r"no answer within 0\.1 s"):
            ask(path, 0.1)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(os.fspath(path))
        with pytest.raises(Rejected, match="too many wait for it"):
            ask(path)
        for each in waiting:
            each.close()


def test_an_answer_before_the_request_was_taken_is_read(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def refuse():
            client, _ = listener.accept()
            with client:
                client.sendall(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
                client.shutdown(socket.SHUT_RD)
                done.wait(10)

        done = threading.Event()
        thread = threading.Thread(target=refuse)
        thread.start()
        answer = anyio.run(exchange, path, b"x" * 4_000_000, 10.0)
        done.set()
        thread.join(10)

    assert answer.status == 413
