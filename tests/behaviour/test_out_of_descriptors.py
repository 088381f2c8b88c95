"""Without a file descriptor left, for however long, the process lives, serves who is inside, and recovers."""

from __future__ import annotations

import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from lab.backend import backend, echo, echo_requests
from lab.certificates import make
from lab.client import Client, at_rest, get, relay
from lab.sidecar import PATIENCE, wait_until

NONE = 3
"""As a limit: not one more, whatever numbers are free, because 0, 1 and 2 are taken."""
SERVED = 200, b"GET /load "


@contextmanager
def no_descriptor_left(running):
    """As ENFILE is, too: nothing that this process could close makes room."""
    before = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (NONE, before[1]))
    yield
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_those_inside_are_served_and_those_outside_are_once_there_is_room(mode):
    script = echo_requests if mode == "http" else echo

    def ask(number):
        with Client(running.port) as client:
            client.send(get(b"/%d" % number))
            return client.until(b"GET /%d " % number)

    with backend(script) as server, relay(server, f"--mode={mode}") as running, ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(30))
        inside = [stack.enter_context(Client(running.port)) for _ in range(20)]
        for each in inside:
            each.send(get())
            each.until(b"GET / ")
        with no_descriptor_left(running):
            outside = [pool.submit(ask, number) for number in range(30)]
            running.wait_for("cannot accept connections: Too many open files; trying again")
            for each in inside:
                each.send(get(b"/still"))
                assert each.until(b"GET /still ")
            for each in inside[:10]:
                each.raw.close()
            at_rest(running)
            assert not any(each.done() for each in outside)
        assert all(each.result(PATIENCE) for each in outside)
        assert len(running.said("cannot accept")) == 1


@pytest.mark.parametrize("certificate", ["self-signed", "files"])
def test_the_certificate_before_stays_in_force(certificate, tmp_path):
    """A look at the addresses of this namespace once ended the whole process."""
    cert, key = make("localhost").write(tmp_path)
    flags = (f"--cert={cert}", f"--key={key}") if certificate == "files" else ()
    with backend(echo_requests) as server, relay(server, *flags) as running, Client(running.port) as inside:
        with no_descriptor_left(running):
            running.signal(signal.SIGHUP)
            line = running.wait_for("Certificate not reloaded, the one before stays in force")[0]
            assert "Too many open files" in line
            inside.send(get(b"/still"))
            assert inside.answer()[0] == 502, "the backend takes one, too"
        running.signal(signal.SIGHUP)
        running.wait_for("Certificate (reloaded|unchanged)")
        with Client(running.port) as client:
            assert client.ask(get())[0] == 200


def test_under_load_every_request_is_answered():
    """Served, or told that there is no way to the backend; while the limit comes and goes."""
    answers = []
    over = threading.Event()

    def ask():
        while not over.is_set():
            with Client(running.port) as client:
                answers.append(client.ask(get(b"/load"))[::2])

    def served_more_than(before):
        return answers.count(SERVED) > before + 20

    with backend(echo_requests) as server, relay(server) as running, ThreadPoolExecutor(8) as pool:
        load = [pool.submit(ask) for _ in range(8)]
        for _ in range(4):
            with no_descriptor_left(running):
                at_rest(running)  # no accept is tried again and again, with eight clients in the queue
                before = answers.count(SERVED)
            wait_until(partial(served_more_than, before), "served again")
        over.set()
        for each in load:
            each.result()
    assert set(answers) <= {SERVED, (502, b"502 Bad Gateway\n")}
