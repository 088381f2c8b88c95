"""What is asked of the authority, what is made of its answers, and that the token stays out of all messages."""

from __future__ import annotations

import json
import os
import re

import anyio
import pytest

from sslterm.certs import link as module
from sslterm.certs.bundle import Rejected
from sslterm.certs.exchange import Answer
from sslterm.certs.link import Issued, Link, Refused, Verdict

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
GOOD = {"chain": PEM, "authorities": PEM, "lifetime": 86400, "renew_in": 43200.5}
TOKEN = "v1.abc.def.0123456789"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A link, and a function that sets the next answer; what was sent is in `sent`."""
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")

    class Asked:
        link = Link(tmp_path / "socket", token)
        path = token

        def __init__(self):
            self.answer: Answer | Exception = Answer(200, b"{}", 0)
            self.sent: list[bytes] = []

        def answers(self, value, status=200, retry_after=0.0):
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.answer = Answer(status, body, retry_after)

    asked = Asked()

    async def exchange(path, request, patience):
        assert path == tmp_path / "socket"
        asked.sent.append(request)
        if isinstance(asked.answer, Exception):
            raise asked.answer
        return asked.answer

    monkeypatch.setattr(module, "exchange", exchange)
    return asked


def test_a_certificate(asked):
    asked.answers(GOOD)

    assert anyio.run(asked.link.certificate, "CSR") == Issued(PEM.encode(), PEM.encode(), 86400.0, 43200.5)
    head, _, body = asked.sent[-1].partition(b"\r\n\r\n")
    assert body == b"CSR"
    assert head.split(b"\r\n") == [
        b"POST /v1/certificate HTTP/1.1",
        b"Host: authority",
        b"Connection: close",
        b"Authorization: Bearer " + TOKEN.encode(),
        b"Content-Type: application/x-pem-file",
        b"Content-Length: 3",
    ]


def test_authorities(asked):
    asked.answers({"authorities": PEM})

    assert anyio.run(asked.link.authorities) == PEM.encode()
    assert asked.sent[-1].startswith(b"GET /v1/authorities HTTP/1.1\r\n")
    assert b"Content-Length" not in asked.sent[-1]


def test_a_status(asked):
    asked.answers({"renew": True, "again_in": 60})

    assert anyio.run(asked.link.status, {"failing": "é"}) == Verdict(renew=True, again_in=60.0)
    assert json.loads(asked.sent[-1].partition(b"\r\n\r\n")[2]) == {"failing": "é"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chain": None}, "chain holds no certificate"),
        ({"chain": ""}, "chain holds no certificate"),
        ({"chain": PEM + "ä"}, "chain holds no certificate"),
        ({"authorities": [PEM]}, "authorities holds no certificate"),
        ({"lifetime": "1"}, "lifetime is not a number of seconds between 0 and "),
        ({"lifetime": True}, "lifetime is not a number of seconds between 0 and "),
        ({"lifetime": 0}, "lifetime is not a number of seconds between 0 and "),
        ({"lifetime": 1e300}, "lifetime is not a number of seconds between 0 and "),
        ({"lifetime": float("nan")}, "lifetime is not a number of seconds between 0 and "),
        ({"renew_in": -1}, "renew_in is not a number of seconds between 0 and 86400"),
        ({"renew_in": 86401}, "renew_in is not a number of seconds between 0 and 86400"),
    ],
)
def test_an_odd_certificate_names_what_is_odd(asked, change, reason):
    asked.answers(GOOD | change)
    with pytest.raises(Refused, match=reason) as error:
        anyio.run(asked.link.certificate, "CSR")

    assert str(error.value).startswith("authority /")


@pytest.mark.parametrize("value", [{}, {"renew": 1, "again_in": 1}, {"renew": True, "again_in": None}])
def test_an_odd_verdict_is_refused(asked, value):
    asked.answers(value)
    with pytest.raises(Refused):
        anyio.run(asked.link.status, {})


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(asked, body):
    asked.answers(body)
    with pytest.raises(Refused, match="the answer is no JSON object"):
        anyio.run(asked.link.authorities)


def test_a_refusal_is_one_short_line_without_the_token(asked):
    asked.answers({"error": f"a\nb {TOKEN} " + "c" * 1000}, status=401, retry_after=1e9)
    with pytest.raises(Refused) as error:
        anyio.run(asked.link.authorities)

    line = str(error.value)
    assert "refused with 401: a b … ccc" in line
    assert TOKEN not in line
    assert "\n" not in line
    assert len(line) < 500
    assert error.value.retry_after == 300, "nobody is sent away for good"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error": null}', b'{"error": ""}', b"{}"])
def test_a_refusal_without_a_reason(asked, body):
    asked.answers(body, status=500)
    with pytest.raises(Refused, match="refused with 500: no reason"):
        anyio.run(asked.link.authorities)


def test_no_answer_names_the_socket(asked):
    asked.answer = Rejected("nobody there")
    with pytest.raises(Refused, match=r"authority /.*/socket: nobody there"):
        anyio.run(asked.link.authorities)


def test_the_token_is_read_each_time(asked):
    asked.answers({"authorities": PEM})
    asked.path.write_text("another")
    anyio.run(asked.link.authorities)

    assert b"\r\nAuthorization: Bearer another\r\n" in asked.sent[-1]


@pytest.mark.parametrize("content", [b"", b"\n", b"a b", b"a\r\nX: y", b"a\0", "é".encode(), b"a" * 4097])
def test_a_file_without_a_token(asked, content):
    asked.path.write_bytes(content)
    with pytest.raises(Refused, match=r"authority-token /.*/token: holds no token") as error:
        anyio.run(asked.link.authorities)

    assert not re.search(r"X: y|aaa", str(error.value))


def test_a_token_file_that_is_none(asked):
    asked.path.unlink()
    with pytest.raises(Refused, match=r"authority-token /.*/token: No such file"):
        anyio.run(asked.link.authorities)
    os.mkfifo(asked.path)
    with pytest.raises(Refused, match=r"authority-token /.*/token: not a file"):
        anyio.run(asked.link.authorities)
