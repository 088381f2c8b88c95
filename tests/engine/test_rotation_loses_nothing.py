"""
Certificates and roots change under way, and clients that verify every connection notice nothing.

A certificate lives a minute here, so three rotations take a minute and a half; what else needs such times goes on
beside them: the tests below share their containers, in the order in which they stand.
"""

from __future__ import annotations

import datetime as dt
import socket
import threading
from dataclasses import dataclass

import pytest
from cryptography import x509
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from lab.injector import byfahrer
from lab.programs import STEADY
from lab.steady import RATE, Steady, steady_load
from lab.trust import PORT, Scene, Watch, client, leaf, scene
from lab.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

ROTATIONS = 3


class Conversation:
    """A WebSocket that stays open: something is said and comes back, again and again."""

    def __init__(self, address, roots):
        self.exchanged = 0
        self.failures: list[str] = []
        self._where, self._context = (address, PORT), client(roots)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            raw = socket.create_connection(self._where, 20)
            with connect(f"wss://localhost:{PORT}/", sock=raw, ssl=self._context, ping_interval=None) as websocket:
                while not self._over.wait(0.05):
                    websocket.send(f"number {self.exchanged}")
                    assert websocket.recv(20) == f"number {self.exchanged}"
                    self.exchanged += 1
        except (OSError, WebSocketException, AssertionError) as error:
            self.failures.append(repr(error))

    def end(self):
        self._over.set()
        self._thread.join()


@dataclass
class Loaded:
    """A target under load since the beginning of this module."""

    scene: Scene
    target: str
    watch: Watch
    websocket: Conversation
    load: Steady


@pytest.fixture(scope="module")
def loaded(engine, tmp_path_factory):
    with scene(engine) as made:
        made.begin()
        www = made.target(program=STEADY, leaf_lifetime="1m")
        address, roots = made.lab.address(www), made.home.root()
        file = tmp_path_factory.mktemp("roots") / "root.pem"
        file.write_text(roots)
        watch, websocket = Watch(address, roots), Conversation(address, roots)
        try:
            with steady_load(PORT, host=address, roots=str(file)) as load:
                yield Loaded(made, www, watch, websocket, load)
        finally:
            watch.end()
            websocket.end()


@pytest.fixture(scope="module")
def other(engine, loaded):
    """One that may be disturbed, while the load goes on."""
    with scene(engine) as made:
        made.begin()
        yield made


def left(certificate: x509.Certificate) -> float:
    """Seconds until it expires."""
    return (certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).total_seconds()


def test_an_injector_that_is_down_for_half_a_life_is_missed_by_no_client(other):
    www = other.target("minute", STEADY, leaf_lifetime="1m")
    address, roots = other.lab.address(www), other.home.root()
    watch = Watch(address, roots)
    try:
        before = leaf(address, client(roots))
        other.injector.stop()
        wait_until(lambda: b" WARN" in other.lab.api.logs(other.sidecar(www)), 60)  # it could not be renewed
        wait_until(lambda: left(before) < 25, 60)
        assert leaf(address, client(roots)).serial_number == before.serial_number
        other.begin()
        wait_until(lambda: leaf(address, client(roots)).serial_number != before.serial_number, left(before))
        answered = watch.answered
        wait_until(lambda: watch.answered > answered + 10, 20)
    finally:
        watch.end()

    assert watch.failures == []
    assert len(watch.serials) == 2
    assert len(other.lab.sidecars(www)) == 1


def test_after_a_rotation_of_the_root_those_with_the_old_and_those_with_the_new_one_verify(other):
    www = other.target("day", STEADY)
    address, old = other.lab.address(www), other.home.root()
    watch = Watch(address, old)
    try:
        before = leaf(address, client(old))
        done = byfahrer("ca", "rotate", env=other.home.env)
        assert done.code == 0, done.err
        new = other.home.root().replace(old, "")
        assert new.count("BEGIN CERTIFICATE") == 1
        assert leaf(address, client(old)) is not None
        after = wait_until(lambda: leaf(address, client(new)), 90)
        assert after.serial_number != before.serial_number
        assert leaf(address, client(old)).serial_number == after.serial_number
        fresh = other.target("fresh", STEADY)
        for roots in (old, new):
            assert leaf(other.lab.address(fresh), client(roots)) is not None
    finally:
        watch.end()

    assert watch.failures == []


def test_a_websocket_and_a_load_go_on_across_three_rotations(loaded):
    wait_until(lambda: len(loaded.watch.serials) > ROTATIONS or loaded.watch.failures, 150, interval=0.5)
    said = loaded.websocket.exchanged
    loaded.load.goes_on(RATE)
    wait_until(lambda: loaded.websocket.exchanged > said or loaded.websocket.failures, 20)
    result = loaded.load.result()
    print(result, loaded.watch.answered, loaded.websocket.exchanged)

    assert result["failures"] == []
    assert result["answered"] == result["due"]
    assert loaded.watch.failures == []
    assert loaded.websocket.failures == []
    assert len(loaded.watch.serials) > ROTATIONS
    assert [each["RestartCount"] for each in loaded.scene.lab.sidecars(loaded.target)] == [0]
