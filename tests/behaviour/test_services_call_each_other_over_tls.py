"""Two services talk mTLS through their sidecars, each in plain text with its own: bytes, ends and names arrive."""

from __future__ import annotations

import hashlib
import json
import os
import threading

import pytest

from lab.backend import backend, echo, echo_requests
from lab.calls import CA, SERVER, Program, calling, files, serving
from lab.certificates import make
from lab.client import access_lines, at_rest, get, memory, relay
from lab.private_ca import BOTH
from lab.sidecar import wait_until

BULK = os.urandom(1 << 20) * 12


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_a_caller_that_is_allowed_gets_its_echo(near, far, workers, profile):
    flags = (f"--workers={workers}", f"--tls-profile={profile}")
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port, *flags) as web:
        for size in (0, 1, 70_000, 300_000):
            with Program(web.outlet) as program:
                program.send(b"x" * size)
                program.end()
                assert program.rest() == b"x" * size
        assert all("spiffe://byfahrer.internal/ns/shop/svc/web | tcp | " in line for line in access_lines(db, 4))


def test_the_server_may_speak_first(near, far):
    def greets(peer):
        peer.send(b"220 hello\r\n")
        echo(peer)

    with (
        backend(greets) as server,
        serving(far, server) as db,
        calling(near, db.port) as web,
        Program(web.outlet) as program,
    ):
        assert program.until(b"\r\n") == b"220 hello\r\n"
        program.send(b"EHLO\r\n")
        assert program.until(b"\r\n") == b"EHLO\r\n"


def test_an_http_backend_learns_who_called(near, far):
    def tell(peer):
        server.seen.put(peer.head())
        peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        peer.rest()

    with (
        backend(tell) as server,
        serving(far, server, "--mode=http") as shop,
        calling(near, shop.port) as web,
        Program(web.outlet) as program,
    ):
        program.send(get(b"/stock"))
        assert program.head().startswith(b"HTTP/1.1 204 ")
        assert b"URI=spiffe://byfahrer.internal/ns/shop/svc/web" in server.sees()


def test_an_application_in_http_mode_may_call_others_too(near, far):
    with (
        backend(echo_requests) as server,
        serving(far, server, "--mode=http") as shop,
        calling(near, shop.port, "--mode=http") as web,
        Program(web.outlet) as program,
    ):
        for number in range(3):
            program.send(get(b"/%d" % number))
            assert program.head().startswith(b"HTTP/1.1 200 ")
            program.exactly(len(b"GET /0 "))


@pytest.mark.parametrize("first", ["caller", "server"])
def test_each_direction_ends_by_itself(near, far, first):
    def script(peer):
        if first == "server":
            peer.send(b"a question")
            peer.end()
            server.seen.put(peer.rest())
        else:
            server.seen.put(peer.rest())
            peer.send(BULK)

    with (
        backend(script) as server,
        serving(far, server) as db,
        calling(near, db.port) as web,
        Program(web.outlet) as program,
    ):
        if first == "server":
            assert program.rest() == b"a question"
            program.send(BULK)
            program.end()
            assert server.sees() == BULK
        else:
            program.send(b"a question")
            program.end()
            assert server.sees() == b"a question"
            assert program.rest() == BULK


def test_bulk_data_arrives_intact_both_ways_at_once(near, far):
    with backend(echo) as server, serving(far, server) as db, calling(near, db.port) as web:
        programs = [Program(web.outlet) for _ in range(3)]
        writers = [threading.Thread(target=lambda p=p: (p.send(BULK), p.end())) for p in programs]
        for writer in writers:
            writer.start()
        for program in programs:
            assert hashlib.sha256(program.rest()).digest() == hashlib.sha256(BULK).digest()
            program.close()
        for writer in writers:
            writer.join(30)


def test_who_does_not_read_holds_the_other_back_and_costs_no_work(near, far):
    def flood(peer):
        peer.send(BULK)
        peer.end()
        peer.rest()

    with (
        backend(flood) as server,
        serving(far, server) as db,
        calling(near, db.port) as web,
        Program(web.outlet, receive_buffer=8192) as program,
    ):
        assert program.recv(1)
        at_rest(web)
        assert len(program.rest()) == len(BULK) - 1
        program.end()


def test_a_server_that_does_not_read_holds_the_caller_back(near, far):
    def slow(peer):
        server.wait()
        server.seen.put(peer.rest())

    with (
        backend(slow) as server,
        serving(far, server) as db,
        calling(near, db.port) as web,
        Program(web.outlet) as program,
    ):
        much = BULK * 4  # sockets take 4 MB on each of the three stretches of the way
        before = memory(web.pid)
        writer = threading.Thread(target=lambda: (program.send(much), program.end()))
        writer.start()
        at_rest(web)
        assert writer.is_alive()
        assert memory(web.pid) - before < 2 << 20
        server.go_on()
        assert server.sees() == much
        writer.join(30)
        assert program.rest() == b""


def test_a_renewed_certificate_is_shown_from_then_on(near, far):
    renewed = CA.issue("web2", "spiffe://byfahrer.internal/ns/shop/svc/web2", usage=BOTH)
    with (
        backend(echo) as server,
        serving(far, server, "--allow=spiffe://byfahrer.internal/**") as db,
        calling(near, db.port) as web,
        Program(web.outlet) as before,
    ):
        before.send(b"before")
        assert before.exactly(6) == b"before"
        renewed.write(near)
        web.wait_for("Certificate reloaded")
        with Program(web.outlet) as after:
            after.send(b"after")
            assert after.exactly(5) == b"after"
        before.send(b"still here")
        assert before.exactly(10) == b"still here"
        before.end()
        assert before.rest() == b""
        seen = [line.split(" | ")[3].split()[1].rpartition("/")[2] for line in access_lines(db, 2)]
        assert seen == ["web2", "web"]


def test_the_access_log_tells_calls_from_clients(near, far):
    with backend(echo) as server, serving(far, server) as db:
        for form in ("text", "json"):
            with calling(near, db.port, f"--log-format={form}", "--mode=tcp") as web:
                with Program(web.outlet) as program:
                    program.send(b"hello")
                    program.end()
                    assert program.rest() == b"hello"
                line = access_lines(web, 1)[0]
                if form == "text":
                    assert line.split(" | ")[4:] == [f"out localhost:{db.port}", "5/5"]
                else:
                    told = json.loads(line)
                    assert told.pop("client").startswith("127.0.0.1:")
                    assert told.keys() >= {"time", "duration_ms"}
                    assert told | {"time": 0, "duration_ms": 0} == {
                        "time": 0, "duration_ms": 0, "direction": "out", "upstream": f"localhost:{db.port}",
                        "received": 5, "sent": 5,
                    }  # fmt: skip


def test_an_address_is_verified_as_one(near, far):
    with backend(echo) as server, serving(far, server) as db:
        port = db.port
        with calling(near, port, f"--outbound=:{port - 1}=127.0.0.1:{port}") as web, Program(port - 1) as program:
            program.send(b"hello")
            program.end()
            assert program.rest() == b"hello"
            assert not web.said("WARN")


def test_a_self_signed_certificate_will_do_for_a_server_that_asks_for_none(near, far):
    with (
        backend(echo) as server,
        relay(server, *files(far, SERVER)[:2], "--mode=tcp") as db,
        calling(near, db.port, pem=make("localhost")) as web,
        Program(web.outlet) as program,
    ):
        program.send(b"hello")
        program.end()
        assert program.rest() == b"hello"


def test_what_it_says_at_the_end_counts_calls(near, far):
    with backend(echo) as server, serving(far, server) as db:
        with calling(near, db.port) as web:
            with Program(web.outlet) as program:
                program.end()
                assert program.rest() == b""
            wait_until(lambda: len(web.access) == 1, "the call's line")
        assert web.said("Stopped; served 0 requests on 0 connections; 1 calls to others, 0 of which failed")
