"""The store: stage, validate, publish; what fails changes nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from lab.certificates import make
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.store import Store
from sslterm.settings import Mode, TlsProfile


def only(pair):
    return Credentials((pair,))


def bundle(pem):
    return Bundle(pem.cert, pem.key, "c.pem", "k.pem")


def store(now=None):
    return Store(Mode.HTTP, TlsProfile.INTERMEDIATE, **({"clock": lambda: now} if now else {}))


GOOD = bundle(make("localhost", "a.example", "b.example", "c.example", "d.example"))


def test_without_a_certificate_there_is_no_context():
    empty = store()

    assert empty.current is None
    with pytest.raises(RuntimeError):
        empty.context()


def test_what_is_put_is_in_force_as_one_object():
    held = store()
    identity = held.put(only(GOOD))

    assert held.current is identity
    assert held.context() is identity.context


def test_the_same_bytes_again_change_nothing():
    held = store()

    assert held.put(only(GOOD)) is held.put(only(replace(GOOD, source="the same, from elsewhere")))


@pytest.mark.parametrize(
    "bad",
    [
        Bundle(b"", GOOD.key, "c.pem", "k.pem"),
        Bundle(GOOD.chain, make("other").key, "c.pem", "k.pem"),
        bundle(make(begins=-9, ends=-1)),
        bundle(make(begins=1, ends=9)),
    ],
    ids=["empty", "mismatch", "expired", "early"],
)
def test_a_bad_one_keeps_the_one_before(bad):
    held = store()
    first = held.put(only(GOOD))
    with pytest.raises(Rejected):
        held.put(only(bad))

    assert held.current is first


def test_an_expired_one_is_better_than_none_but_told():
    held = store()
    identity = held.put(only(bundle(make(begins=-9, ends=-1))))

    assert "expired" in held.fault(identity)
    assert held.put(only(bundle(make(begins=-8, ends=-1)))) is held.current
    assert held.put(only(GOOD)) is held.current


def test_one_that_expires_in_force_gives_way_to_another_expired_one():
    now = dt.datetime.now(dt.UTC) + dt.timedelta(days=60)
    held = store(now)
    held.put(only(GOOD))

    assert held.put(only(bundle(make(ends=31)))) is held.current


def test_its_line_tells_source_names_end_and_fingerprint_but_no_key():
    line = str(store().put(only(GOOD)))

    assert line.startswith("c.pem for localhost, a.example, b.example, c.example and 1 more, valid until 20")
    assert line.endswith(f"UTC, sha256 {GOOD.fingerprint[:16]}")
    assert "PRIVATE" not in line
