"""What was cut never looks whole, whoever cut it and whichever way the bytes went."""

from __future__ import annotations

import pytest

from lab.backend import backend, ok, read_body
from lab.client import Client, access_lines, get, post, relay

BREAK = {"ends early": lambda peer: peer.close(), "resets": lambda peer: peer.reset()}
HALF = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
    "last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
}


@pytest.mark.parametrize("framing", HALF)
@pytest.mark.parametrize("how", BREAK)
def test_half_a_response_is_cut_for_the_client_too(framing, how):
    def answer(peer):
        peer.head()
        peer.send(HALF[framing])
        server.wait()
        BREAK[how](peer)

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            client.send(get())
            assert client.until(b"half")
            server.go_on()

            assert client.is_cut()
        line = access_lines(running, 1)[0]
        assert "| 200 |" in line
        assert line.count(" | ") == 6, f"{line} says why"


def test_a_response_until_close_is_whole_only_if_it_ends_in_order():
    def answer(peer):
        path = peer.head().split()[1]
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nbody")
        server.wait()
        if path == b"/cut":
            peer.reset()

    with backend(answer) as server, relay(server) as running:
        for path in (b"/whole", b"/cut"):
            with Client(running.port) as client:
                client.send(get(path))
                client.until(b"body")
                server.go_on()
                assert client.is_cut() is (path == b"/cut")


@pytest.mark.parametrize("how", BREAK)
@pytest.mark.parametrize("framing", ["length", "chunked", "tcp"])
def test_half_an_upload_is_cut_for_the_backend_too(framing, how):
    def answer(peer):
        try:
            if framing != "tcp":
                peer.head()
            peer.until(b"half")
            server.seen.put(b"half")
            server.seen.put(peer.rest())
        except ConnectionResetError:
            server.seen.put(b"reset")

    start = {
        "length": get(b"/", b"Content-Length: 100", method=b"PUT") + b"half",
        "chunked": get(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + b"4\r\nhalf\r\n",
        "tcp": b"half",
    }[framing]
    with backend(answer) as server, relay(server, f"--mode={'tcp' if framing == 'tcp' else 'http'}") as running:
        client = Client(running.port)
        client.send(start)
        assert server.sees() == b"half"
        if how == "resets":
            client.reset()
        else:
            client.raw.close()  # FIN without close_notify: anybody on the path can do that

        assert server.sees() == b"reset"
        line = access_lines(running, 1)[0]
        assert "|   - |" in line if framing == "tcp" else "| 499 |" in line


@pytest.mark.parametrize("how", ["backend resets", "client resets"])
def test_a_tcp_stream_that_breaks_breaks_on_the_other_side(how):
    def answer(peer):
        peer.send(b"half")
        if how == "backend resets":
            server.wait()
            peer.reset()
        else:
            server.seen.put(b"%d" % peer.is_cut())

    with backend(answer) as server, relay(server, "--mode=tcp") as running:
        client = Client(running.port)
        client.until(b"half")
        if how == "backend resets":
            server.go_on()
            assert client.is_cut()
            client.close()
        else:
            client.reset()
            assert server.sees() == b"1"


def test_a_client_that_resets_while_nobody_reads_from_it_is_noticed():
    """Its request is under way, so that nothing is read from it; the reset has to come through all the same."""

    def answer(peer):
        server.seen.put(peer.head())
        server.seen.put(b"%d" % peer.is_cut())

    with backend(answer) as server, relay(server) as running:
        client = Client(running.port)
        client.send(get() + b"sent ahead")
        assert server.sees()
        client.reset()

        assert server.sees() == b"1"
        assert "| 499 |" in access_lines(running, 1)[0]


def test_a_client_that_just_leaves_an_idle_connection_is_no_reset_for_the_backend():
    """Most clients close without close_notify, and nothing is lost when nothing was under way."""

    def answer(peer):
        peer.head()
        peer.send(ok())
        server.seen.put(b"%d" % peer.is_cut())

    with backend(answer) as server, relay(server) as running:
        client = Client(running.port)
        assert client.ask(get())[0] == 200
        client.raw.close()

        assert server.sees() == b"0"
        assert len(access_lines(running, 1)) == 1


def test_the_end_of_a_response_survives_a_client_that_goes_on_sending():
    """Closing with unread bytes would reset the connection and destroy what the client has not read yet."""
    body = bytes(3_000_000)

    def answer(peer):
        read_body(peer, peer.head())
        peer.send(ok(body, b"Connection: close"))

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(post(b"x" * 500_000, b"/", b"Connection: close"))
        client.send(b"y" * 200_000)

        assert client.answer()[2] == body
