"""What every request to an ACME server has in common: patience, and the server's own words for people."""

from __future__ import annotations

import datetime as dt
import email.utils
import io

import pytest
import requests
from acme import errors, messages

from sslterm.certs.acme_client import Failed, Network, _Replacement, explain, refusal, retry_after

RATE = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many of these", "status": 429}


def answer(retry: str | None, status: int = 429) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.url = "https://acme.example/dir"
    if retry is not None:
        response.headers["Retry-After"] = retry
    return response


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("0", 0.0), (None, 7.0), ("", 7.0), ("soon", 7.0), ("-5", 7.0), ("9" * 12, 7.0)]
)
def test_retry_after_in_seconds(text, seconds):
    assert retry_after(answer(text), 7.0) == seconds


def test_retry_after_as_a_date():
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)

    assert retry_after(answer(email.utils.format_datetime(later, usegmt=True)), 7.0) == pytest.approx(7200, abs=60)
    assert retry_after(answer("Wed, 21 Oct 2015 07:28:00 GMT"), 7.0) == 0.0


def test_a_problem_is_told_with_all_that_is_in_it():
    inner = [{"type": "urn:ietf:params:acme:error:dns", "detail": f"no {name}"} for name in "ab"]
    outer = {"type": "urn:ietf:params:acme:error:compound", "detail": "two", "subproblems": inner}
    told = explain(messages.Error.from_json(outer))

    assert str(told) == (
        "urn:ietf:params:acme:error:compound: two; urn:ietf:params:acme:error:dns: no a; "
        "urn:ietf:params:acme:error:dns: no b"
    )
    assert told.reached


def test_the_same_reason_is_known_by_its_kind_not_by_its_words():
    first, second = (messages.Error.from_json(RATE | {"detail": text}) for text in ("until ten", "until eleven"))

    assert refusal(first, of=["a"]).kind == refusal(second, of=["a"]).kind
    assert refusal(first, of=["a"]).kind != refusal(first, of=["b"]).kind
    assert str(refusal(first, second, of=["a", "b"])).count("until") == 2


@pytest.mark.parametrize(
    ("error", "said", "reached"),
    [
        (Failed("as it is"), "as it is", True),
        (errors.TimeoutError(), "did not come to a decision", True),
        (errors.IssuanceError(messages.Error.from_json(RATE)), "too many of these", True),
        (errors.ClientError(answer(None, 404)), "https://acme.example/dir: answered 404, not as an ACME server", False),
        (errors.BadNonce("x", "none"), "not as an ACME server answers: Invalid nonce", False),
        (requests.ConnectionError(OSError(111, "Connection refused")), "Connection refused", False),
        (requests.Timeout("read timed out"), "read timed out", False),
        (ValueError("a\nb"), "ValueError: a b", False),
    ],
)
def test_every_error_becomes_a_line(error, said, reached):
    told = explain(error)

    assert said in str(told)
    assert "\n" not in str(told)
    assert told.reached is reached


def test_a_server_that_talks_a_lot_is_cut_short():
    assert len(str(explain(messages.Error.from_json(RATE | {"detail": "x" * 100000})))) <= 4096


class Scripted(Network):
    """Requests that end as the script says, without a network."""

    def __init__(self, *script):
        super().__init__(None, "agent", "")
        self.script = list(script)
        self.sent = []

    def _post_once(self, url, obj, **_):
        self.sent.append(obj)
        outcome = self.script.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


BAD_NONCE = messages.Error.from_json({"type": "urn:ietf:params:acme:error:badNonce", "detail": "again"})


def test_a_refused_nonce_is_only_asked_again():
    network = Scripted(*[BAD_NONCE] * 20, answer(None, 200))

    assert network.post("url", None).status_code == 200
    assert len(network.sent) == 21


def test_though_not_without_end():
    network = Scripted(*[BAD_NONCE] * 100)
    with pytest.raises(messages.Error, match="badNonce"):
        network.post("url", None)
    assert len(network.sent) == 30


def test_other_refusals_are_final():
    network = Scripted(messages.Error.from_json(RATE), answer(None, 200))
    with pytest.raises(messages.Error, match="too many"):
        network.post("url", None)
    assert len(network.sent) == 1


def test_an_order_says_what_it_replaces():
    order = messages.NewOrder(identifiers=[messages.Identifier(typ=messages.IDENTIFIER_FQDN, value="a")])
    network = Scripted(answer(None, 200), answer(None, 200))
    network.post("url", order)
    network.replaces = "issuer.serial"
    network.post("url", order)
    plain, replacing = (each.to_json() for each in network.sent)

    assert isinstance(network.sent[1], _Replacement)
    assert replacing == plain | {"replaces": "issuer.serial"}


def test_what_a_refusal_says_of_when_to_come_back_is_kept():
    network = Network(None, "agent", "")
    (_, note) = network.session.hooks["response"]
    note(answer("120"))
    note(answer("5", 200))

    assert network.after == 120.0


@pytest.mark.parametrize("size", [1024 * 1024, 1024 * 1024 + 1])
def test_an_answer_is_read_up_to_a_megabyte(size):
    network = Network(None, "agent", "")
    (bound, _) = network.session.hooks["response"]
    response = answer(None, 200)
    response.raw = io.BytesIO(b"x" * size)
    if size > 1024 * 1024:
        with pytest.raises(Failed, match="answered with more than"):
            bound(response)
    else:
        bound(response)
        assert len(response.content) == size


def test_nothing_is_asked_over_plain_http():
    with pytest.raises(requests.RequestException, match="No connection adapters"):
        Network(None, "agent", "").session.get("http://127.0.0.1:9/")
