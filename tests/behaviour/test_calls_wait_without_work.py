"""However oddly a call is left by one of its ends, the process waits without work and holds nothing in the end."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest

from lab.backend import backend, echo
from lab.calls import SERVER, Program, calling, serving
from lab.client import access_lines, at_rest
from lab.sidecar import wait_until

BULK = bytes(48 << 20)


@pytest.mark.parametrize("who", ["caller", "server"])
def test_one_has_ended_and_the_other_is_silent(near, far, who):
    def script(peer):
        if who == "server":
            peer.end()
        server.seen.put(peer.rest())
        server.wait()

    with (
        backend(script) as server,
        serving(far, server) as db,
        calling(near, db.port) as web,
        Program(web.outlet) as program,
    ):
        if who == "caller":
            program.end()
            assert server.sees() == b""
        else:
            assert program.rest() == b""
        at_rest(web)
        if who == "server":
            program.send(b"late")
            program.end()
            assert server.sees() == b"late"
        server.go_on()
        assert program.rest() == b""
        assert access_lines(web, 1)[0].endswith("| 0/0" if who == "caller" else "| 4/0")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_caller_that_goes_while_the_server_does_not_read(near, far, how):
    """Its end cannot be passed on, and epoll reports it whether it is asked for or not."""

    def stuck(peer):
        peer.end()
        server.wait()
        with suppress(OSError):
            server.seen.put(peer.rest()[:1])

    with backend(stuck) as server, serving(far, server) as db, calling(near, db.port) as web:
        with Program(web.outlet) as program:
            assert program.rest() == b""
            program.raw.settimeout(0.5)
            with suppress(TimeoutError):
                program.send(BULK)
            if how == "reset":
                program.reset()
        at_rest(web)
        server.go_on()
        line = access_lines(web, 1)[0]
        assert ("reset" in line) == (how == "reset")


@pytest.mark.parametrize("how", ["in order", "cut"])
def test_a_server_that_goes_while_the_caller_does_not_read(near, far, how):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*SERVER.write(far))

    def flood(peer):
        with context.wrap_socket(peer.raw, server_side=True) as tls:
            tls.settimeout(0.5)
            sent = 0
            with suppress(TimeoutError):
                while True:
                    sent += tls.send(BULK[:16384])
            if how == "in order":
                with suppress(OSError):
                    tls.unwrap()
        server.seen.put(b"%d" % sent)

    with backend(flood) as server, calling(near, server.port) as web:
        with Program(web.outlet, receive_buffer=8192) as program:
            server.sees()
            at_rest(web)
            # The last record may have been cut by the timeout, and close_notify with it: then it is no end in order.
            with suppress(ConnectionResetError):
                while program.recv():
                    pass
            program.close()
        access_lines(web, 1)
        at_rest(web)


def test_programs_that_leave_in_the_middle_leave_nothing(near, far):
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port) as web:
        for number in range(40):
            with Program(web.outlet) as program:
                if number % 4:
                    program.send(b"x" * 1000 * number)
                if number % 3 == 0:
                    program.end()
                if number % 2:
                    program.reset()
        access_lines(web, 40)
        wait_until(lambda: not web.said("unexpected|Traceback") and len(web.access) == 40, "forty ends")
        at_rest(web)


def test_calls_that_wait_for_a_server_wait_without_work(near):
    with (
        backend(lambda peer: peer.rest()) as server,
        calling(near, server.port) as web,
        Program(web.outlet) as first,
        Program(web.outlet) as second,
    ):
        first.send(b"x" * 100_000)
        second.end()
        wait_until(lambda: server.accepted == 2, "both calls")
        at_rest(web)
