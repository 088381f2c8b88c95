"""What is told of a sidecar: before there is a certificate, with one, and with far too many names."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from lab.certificates import make
from sslterm.audit import Audit
from sslterm.certs.bundle import Bundle, Credentials
from sslterm.certs.health import Health
from sslterm.certs.store import Store
from sslterm.relay.tally import DENIALS, OPEN, REQUESTS, Tally
from sslterm.settings import Mode, Settings, TlsProfile
from sslterm.status import Status


class Parts:
    """Everything that a status is made from."""

    def __init__(self):
        self.tally, self.health, self.phase = Tally(), Health(), "serving"
        self.now = datetime.now(UTC)
        self.store = Store(Mode.HTTP, TlsProfile.INTERMEDIATE, clock=lambda: self.now)
        self.audit = Audit(print)
        self.status = self.make(Settings())

    def make(self, settings):
        return Status(settings, self.store, self.health, self, lambda: self.phase, self.audit)

    def page(self, path):
        return self.status.pages()[path]()

    def put(self, *names):
        pem = make(*names)
        self.store.put(Credentials((Bundle(pem.cert, pem.key, "a", "a"),)))
        return pem


@pytest.fixture
def parts():
    return Parts()


def test_before_there_is_a_certificate(parts):
    parts.phase = "starting"
    told = json.loads(parts.page("/status").text)

    assert parts.page("/ready")[::2] == (503, "starting\n")
    assert told["ready"] is False
    assert told["certificate"] == {
        "source": "self-signed", "serial": "", "sha256": "", "not_before": "", "not_after": "", "names": [],
        "failing": "", "renewal_failures": 0,
    }  # fmt: skip
    assert "not_after" not in parts.page("/metrics").text
    assert parts.status.for_authority()["sha256"] == ""


def test_with_a_certificate(parts):
    pem = parts.put("localhost")
    parts.health.failed("for a reason")
    parts.tally.mine[OPEN], parts.tally.mine[REQUESTS] = 3, 7
    parts.tally.mine[DENIALS["expired"]] = 2
    told = parts.status.for_authority()

    assert int(told["serial"], 16) == pem.serial
    assert (told["connections"], told["requests"], told["failing"]) == (3, 7, "for a reason")
    assert told["denied"]["expired"] == 2
    assert 'sslterm_denied_total{reason="expired"} 2\n' in parts.page("/metrics").text
    assert parts.page("/ready")[::2] == (200, "ready\n")


def test_one_that_expired_is_not_ready(parts):
    parts.put("localhost")
    parts.now = datetime(2099, 1, 1, tzinfo=UTC)

    assert parts.page("/ready").status == 503
    assert parts.page("/ready").text.startswith("certificate: expired on ")


def test_what_the_authority_is_told_has_its_limits(parts):
    parts.put("localhost", *(f"{number}.{'x' * 60}.example" for number in range(400)))
    parts.health.failed("why " * 10_000)
    told = parts.status.for_authority()

    assert len(json.dumps(told)) < 16 * 1024
    assert told["names"][0] == "localhost"
    assert 100 < len(told["names"]) < 200
    assert len(json.loads(parts.page("/status").text)["certificate"]["names"]) == 401


def test_no_key_is_told(parts):
    key = parts.put("localhost").key.split()
    shown = "".join(parts.page(path).text for path in parts.status.pages()) + str(parts.status.for_authority())

    assert not [line for line in key if len(line) > 20 and line.decode() in shown]
