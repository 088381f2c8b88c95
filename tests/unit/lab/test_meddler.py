"""The meddler hands calls on as they are, but for what its rules say."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from lab.meddler import Delays, Fails, Holds, Meddler, Rewrites
from lab.waiting import wait_until


class Answers(BaseHTTPRequestHandler):
    """Stands for an engine: tells what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        told = json.dumps({"method": self.command, "path": self.path, "body": body.decode()}).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST  # noqa: N815 - the name that http.server looks for


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def meddler(tmp_path):
    engine = Server(str(tmp_path / "engine"), Answers)
    thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    made = Meddler(tmp_path, f"unix://{tmp_path}/engine")
    yield made
    made.close()
    engine.shutdown()
    thread.join()
    engine.server_close()


def ask(meddler, method, path, body=None):
    """Status and content."""
    connection = http.client.HTTPConnection("engine")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(meddler.path))
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_without_rules_calls_and_answers_pass(meddler):
    assert ask(meddler, "POST", "/create?name=x", b"{}") == (
        200, {"method": "POST", "path": "/create?name=x", "body": "{}"},
    )  # fmt: skip
    assert len(meddler.asked("POST", "/create")) == 1
    assert meddler.asked("GET", "/create") == []


def test_a_share_of_the_calls_fails(meddler):
    meddler.add(Fails("GET", share=0.5))
    answers = [ask(meddler, "GET", "/x")[0] for _ in range(20)]

    assert set(answers) == {200, 500}
    assert ask(meddler, "POST", "/x")[0] == 200


def test_answers_are_changed(meddler):
    meddler.add(Rewrites(lambda told: told | {"path": "elsewhere"}, "GET", "/x"))

    assert ask(meddler, "GET", "/x")[1]["path"] == "elsewhere"
    assert ask(meddler, "GET", "/y")[1]["path"] == "/y"


@pytest.mark.parametrize("answered", [False, True])
def test_a_held_call_goes_on_when_it_is_let_go_and_only_the_first_is_held(meddler, answered):
    held = meddler.add(Holds("POST", "/start", answered=answered))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(meddler, "POST", "/start")))
    thread.start()
    held.is_reached()
    assert ask(meddler, "POST", "/start")[0] == 200
    assert answers == []
    held.go()
    thread.join()

    assert answers[0][0] == 200


def test_a_lost_call_breaks_its_connection(meddler):
    held = meddler.add(Holds("POST", "/start"))
    failures = []

    def call():
        try:
            ask(meddler, "POST", "/start")
        except (http.client.HTTPException, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    held.is_reached()
    held.lose()
    thread.join()

    assert len(failures) == 1


def test_a_delay_ends_when_it_is_over(meddler):
    slow = meddler.add(Delays(600))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(meddler, "GET", "/x")))
    thread.start()
    wait_until(lambda: meddler.asked("GET", "/x"))
    slow.over()
    thread.join()

    assert answers[0][0] == 200
