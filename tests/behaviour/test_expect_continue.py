"""Who waits for `100 Continue` gets the backend's own decision, whichever it is."""

from __future__ import annotations

import subprocess

from lab.backend import backend, ok
from lab.client import Client, get, relay

EXPECT = get(b"/", b"Expect: 100-continue", b"Content-Length: 4", method=b"PUT")


def test_a_backend_that_wants_the_body_gets_it():
    def answer(peer):
        while b"Expect: 100-continue" in peer.head():
            peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.send(ok(peer.exactly(4)))

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            for _ in range(2):
                client.send(EXPECT)
                assert client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.send(b"body")
                assert client.answer()[2] == b"body"
        assert server.accepted == 1


def test_a_backend_that_refuses_never_sees_a_body():
    def answer(peer):
        peer.head()
        peer.send(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
        server.seen.put(peer.rest())

    with backend(answer) as server, relay(server) as running:
        with Client(running.port) as client:
            status, head, body = client.ask(EXPECT)

            assert (status, body) == (417, b"no")
            assert b"Connection: close" in head
            assert client.rest() == b"", "what follows could be the body or a request: nobody can tell"
        assert server.sees() == b""


def test_a_backend_that_answers_early_is_heard_while_the_body_still_comes():
    """A refusal of a large upload: the client gets to read it, though the backend takes nothing any more."""

    def answer(peer):
        peer.head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
        peer.close()

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(get(b"/", b"Content-Length: 1000000", method=b"POST") + b"x" * 1000)

        assert client.answer()[::2] == (413, b"big")
        assert client.rest() == b""


def test_other_interim_responses_pass():
    def answer(peer):
        peer.head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ok())
        peer.rest()

    with backend(answer) as server, relay(server) as running, Client(running.port) as client:
        client.send(get())

        assert client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        assert client.answer()[2] == b"ok"


def test_curl_waits_for_its_100():
    def answer(peer):
        peer.head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.send(ok(b"%d" % len(peer.exactly(2_000_000))))
        peer.rest()

    with backend(answer) as server, relay(server) as running:
        said = subprocess.run(
            ["curl", "-ksv", f"https://127.0.0.1:{running.port}", "--data-binary", "@-", "-H", "Expect: 100-continue"],
            input=b"x" * 2_000_000, capture_output=True, timeout=30, check=True,
        )  # fmt: skip

        assert said.stdout == b"2000000"
        assert b"< HTTP/1.1 100 Continue" in said.stderr
