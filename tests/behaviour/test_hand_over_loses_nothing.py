"""A steady load of 2,000 requests a second goes on across reloads and across a change of processes: none is lost."""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
from contextlib import ExitStack

import pytest

from lab.backend import backend, ok, read_body
from lab.certificates import make
from lab.client import Client, post
from lab.sidecar import SERVING, refused, served_certificate, sidecar
from lab.steady import steady_backend, steady_load

FIRST, SECOND = make("localhost", "first"), make("localhost", "second")
STREAK = 1000
"""Requests between one event and the next: half a second's worth."""


def nothing_lost(load):
    result = load.result()
    print(result)
    assert result["failures"] == []
    assert result["answered"] == result["due"]


@pytest.mark.parametrize(("mode", "workers"), [("http", 1), ("tcp", 1), ("http", 2)])
def test_a_steady_load_survives_reloads_and_a_new_process(tmp_path, port, mode, workers):
    FIRST.write(tmp_path)
    with steady_backend(mode) as server:
        flags = (
            f"--mode={mode}",
            f"--workers={workers}",
            f"--cert={tmp_path / 'cert.pem'}",
            f"--key={tmp_path / 'key.pem'}",
            f"--frontend-addr=127.0.0.1:{port}",
            f"--backend-addr=127.0.0.1:{server}",
            "--hand-over=on",
            "--drain-timeout=1m",
        )
        with sidecar(*flags, ready=None) as old:
            old.wait_for(SERVING)
            with steady_load(port, mode) as load:
                load.goes_on(STREAK)
                old.signal(signal.SIGHUP)
                old.wait_for("Certificate unchanged")
                load.goes_on(STREAK)
                SECOND.write(tmp_path)
                old.wait_for("Certificate reloaded")
                load.goes_on(STREAK)
                with sidecar(*flags, "--access-log=off", "--max-head-size=16KiB") as new:
                    load.goes_on(STREAK)
                    old.signal(signal.SIGTERM)
                    assert old.ended() == 0, old.log
                    load.goes_on(STREAK)
                    nothing_lost(load)
                    assert not new.said("WARN|ERROR")
        assert not old.said("WARN|ERROR")


@pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["one address", "every interface"])
def test_one_hand_over_follows_another(port, host):
    with steady_backend() as server, ExitStack() as all_of_them:
        flags = (f"--frontend-addr={host}:{port}", f"--backend-addr=127.0.0.1:{server}", "--hand-over=on")

        def start():
            running = all_of_them.enter_context(sidecar(*flags, ready=None))
            running.wait_for(SERVING)
            return running

        before = start()
        with steady_load(port) as load:
            for _ in range(3):
                after = start()
                load.goes_on(STREAK)
                before.signal(signal.SIGTERM)
                assert before.ended() == 0, before.log
                before = after
            load.goes_on(STREAK)
            nothing_lost(load)
        before.stop()


def test_five_transfers_of_8_mib_finish_in_the_process_that_began_them(port):
    bulk = os.urandom(8 * 1024 * 1024)

    def answer(peer):
        digest = hashlib.sha256(read_body(peer, peer.head())).digest()
        peer.send(ok(digest + bulk))
        peer.rest()

    with backend(answer) as server, ExitStack() as clients:
        flags = (f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{server.port}", "--hand-over=on")
        with sidecar(*flags, "--drain-timeout=1m", ready=None) as old:
            old.wait_for(SERVING)
            whole = post(bulk)
            transfers = [clients.enter_context(Client(port)) for _ in range(5)]
            for each in transfers:
                each.send(whole[: 1024 * 1024])
            with sidecar(*flags) as new:
                old.signal(signal.SIGTERM)
                old.wait_for("SIGTERM: finishing")
                old.signal(signal.SIGHUP)
                for each in transfers:
                    each.send(whole[1024 * 1024 :])
                for each in transfers:
                    assert each.answer()[2] == hashlib.sha256(bulk).digest() + bulk
                assert old.ended() == 0, old.log
                assert len(old.access) == 5
                with Client(port) as client:
                    assert client.ask(post(b"more"))[2] == hashlib.sha256(b"more").digest() + bulk
            assert len(new.access) == 1
            assert not old.said("unchanged|reloaded")


def test_all_new_clients_come_to_the_newest(port, tmp_path):
    with ExitStack() as both:
        for name, pair in (("old", FIRST), ("new", SECOND)):
            cert, key = pair.write(tmp_path / name)
            flags = (f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{port}", "--hand-over=on")
            both.enter_context(sidecar(*flags))

            assert {served_certificate(port) for _ in range(20)} == {ssl.PEM_cert_to_DER_cert(pair.cert.decode())}


@pytest.mark.parametrize(("first", "second"), [("off", "off"), ("on", "off"), ("off", "on")])
def test_a_taken_port_is_an_error_unless_both_share_it(port, first, second):
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", f"--hand-over={first}"):
        result = refused(f"--frontend-addr=127.0.0.1:{port}", f"--hand-over={second}")

    assert result.returncode == 1
    assert f"frontend-addr=127.0.0.1:{port}: already in use in this network namespace" in result.stderr


def test_one_that_was_asked_to_leaves_as_soon_as_another_has_its_port_and_not_before(port):
    with steady_backend() as server:
        flags = (f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{server}", "--hand-over=on")
        with sidecar(*flags, ready=None) as old:
            old.wait_for(SERVING)
            with steady_load(port, rate=500) as load:
                old.signal(signal.SIGUSR2)
                old.wait_for("SIGUSR2: leaving as soon as another sslterm has this port")
                old.signal(signal.SIGUSR2)
                load.goes_on(STREAK)
                assert not old.said("finishing")
                with sidecar(*flags) as new:
                    old.wait_for("Another sslterm has this port: finishing what is under way")
                    assert old.ended() == 0, old.log
                    load.goes_on(STREAK)
                    nothing_lost(load)
                    assert not new.said("WARN|ERROR")


def test_one_that_shares_its_port_with_nobody_does_not_leave(port):
    def answer(peer):
        read_body(peer, peer.head())
        peer.send(ok(b"here"))

    with backend(answer) as server:
        flags = (f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{server.port}", "--log-level=debug")
        with sidecar(*flags) as only:
            only.signal(signal.SIGUSR2)
            only.wait_for("SIGUSR2: nobody can share this port")
            with Client(port) as client:
                assert client.ask(post(b"more"))[2] == b"here"
