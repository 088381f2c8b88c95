"""The store: stage, validate, publish; what fails changes nothing."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import replace

import pytest

from lab.certificates import make
from lab.handshake import client_with, leaf, shake
from lab.private_ca import CLIENT as CLIENT_USE
from lab.private_ca import PrivateCa
from sslterm.certs.bundle import Bundle, Credentials, Rejected
from sslterm.certs.store import Store
from sslterm.settings import ClientAuth, Mode, TlsProfile

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


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


def named(name, pem):
    return Bundle(pem.cert, pem.key, f"{name}.crt", f"{name}.key")


ONE, TWO, THREE = (named(each, make(f"{each}.example")) for each in ("one", "two", "three"))
BROKEN_TWO = replace(TWO, chain=b"")


def test_a_broken_one_of_several_stays_as_it_was_and_the_others_go_on():
    held = store()
    held.put(Credentials((ONE, TWO)))
    fresh = named("one", make("one.example"))
    identity = held.put(Credentials((fresh, BROKEN_TWO, THREE)))

    assert identity.credentials.pairs == (fresh, TWO, THREE)
    assert held.refused == ("two.crt: the file is empty",)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (replace(TWO, key=ONE.key), "two.key: not the key of the first certificate in two.crt"),
        (named("two", make("two.example", begins=-9, ends=-1)), "two.crt: expired on"),
    ],
    ids=["mismatch", "expired"],
)
def test_nothing_but_a_broken_one_is_an_error_and_changes_nothing(bad, line):
    held = store()
    first = held.put(Credentials((ONE, TWO)))
    with pytest.raises(Rejected, match=line):
        held.put(Credentials((ONE, bad)))

    assert held.current is first


def test_one_that_stays_broken_is_told_once():
    held = store()
    held.put(Credentials((ONE, TWO)))
    held.put(Credentials((ONE, BROKEN_TWO, THREE)))
    assert len(held.refused) == 1
    held.put(Credentials((ONE, BROKEN_TWO)))
    assert held.refused == ()
    held.put(Credentials((ONE, TWO, THREE)))
    held.put(Credentials((ONE, BROKEN_TWO)))
    assert len(held.refused) == 1, "it was good in between"


def test_a_new_one_that_is_broken_is_left_out_even_if_it_were_the_default():
    held = store()
    identity = held.put(Credentials((BROKEN_TWO, ONE, THREE), faults=("four.crt: no such file",)))

    assert identity.credentials.pairs == (ONE, THREE)
    assert held.refused == ("four.crt: no such file", "two.crt: the file is empty")
    assert str(identity).endswith("; 1 more by name")


def test_a_new_one_that_is_expired_is_left_out_unless_it_is_the_default():
    """Without it, its clients get the default, which they accept no less."""
    late, later = (named(each, make(f"{each}.example", begins=-9, ends=-1)) for each in ("two", "three"))
    held = store()
    assert held.put(Credentials((late, ONE, later))).credentials.pairs == (late, ONE)
    assert len(held.refused) == 1
    assert held.refused[0].startswith("three.crt: expired on ")


def test_one_that_expires_in_force_stays(monkeypatch):
    now = dt.datetime.now(dt.UTC)
    held = store(now)
    held.put(Credentials((ONE, TWO)))
    monkeypatch.setattr(held, "_clock", lambda: now + dt.timedelta(days=60))

    fresh = named("three", make("three.example", ends=90))
    assert held.put(Credentials((ONE, TWO, fresh))).credentials.pairs == (ONE, TWO, fresh)


def test_nothing_but_broken_ones_names_them_all():
    with pytest.raises(Rejected, match=r"two\.crt: the file is empty; one\.crt: the file is empty"):
        store().put(Credentials((BROKEN_TWO, replace(ONE, chain=b""))))


def test_its_spiffe_id_is_the_only_uri_of_the_default():
    ca = PrivateCa.made()
    uri, other = "spiffe://example.org/ns/shop/svc/web", "spiffe://example.org/ns/shop/svc/api"
    held = store()

    assert held.own_uri() == ""
    identity = held.put(only(named("a", ca.issue("web.example", uri))))
    assert held.own_uri() == uri
    assert identity.facts.hosts == ("web.example",)
    assert identity.facts.names == ("web.example", uri)
    for names in [("web.example",), (uri, other), ("https://example.org/",)]:
        held.put(only(named("a", ca.issue(*names))))
        assert held.own_uri() == ""


OLD_CA, NEW_CA = PrivateCa.made("old"), PrivateCa.made("new")


def asking(kind=ClientAuth.REQUIRED):
    return Store(Mode.HTTP, TlsProfile.INTERMEDIATE, kind)


def believing(*authorities):
    return Credentials((ONE,), b"".join(each.pem for each in authorities), authorities_source="ca.pem")


@pytest.mark.parametrize(
    ("bundle_of_authorities", "line"),
    [
        (b"", "ca.pem: empty, so that no client's certificate could be believed"),
        (ONE.key, "ca.pem: holds no certificate of an authority, only private key"),
        (OLD_CA.pem[:200], "ca.pem: cut short, an -----END line is missing"),
        (b"hello", "ca.pem: not PEM"),
        (b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n", "ca.pem: "),
    ],
    ids=["empty", "key", "cut", "text", "nonsense"],
)
def test_authorities_that_are_none_are_refused_and_those_before_stay(bundle_of_authorities, line):
    bad = replace(believing(OLD_CA), authorities=bundle_of_authorities)
    with pytest.raises(Rejected) as error:
        asking().put(bad)
    assert str(error.value).startswith(line)

    held = asking()
    first = held.put(believing(OLD_CA))
    with pytest.raises(Rejected):
        held.put(bad)
    assert held.current is first
    fresh = named("one", make("one.example"))
    assert held.put(replace(bad, pairs=(fresh,))).credentials == Credentials((fresh,), OLD_CA.pem)
    assert held.refused == (), "it was told a moment ago"


def test_authorities_are_nothing_to_who_asks_no_client():
    held = store()
    first = held.put(believing(OLD_CA))

    assert held.put(believing(NEW_CA)) is first
    assert held.put(replace(believing(), authorities=b"hello")) is first


CLIENT = OLD_CA.issue("laptop", usage=CLIENT_USE)
STRANGERS = {
    "none": (None, "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
    "foreign": (NEW_CA.issue("laptop", usage=CLIENT_USE), "CERTIFICATE_VERIFY_FAILED"),
    "expired": (OLD_CA.issue("laptop", usage=CLIENT_USE, begins=-9, ends=-1), "CERTIFICATE_VERIFY_FAILED"),
    "early": (OLD_CA.issue("laptop", usage=CLIENT_USE, begins=1, ends=9), "CERTIFICATE_VERIFY_FAILED"),
    "a server's": (OLD_CA.issue("laptop"), "CERTIFICATE_VERIFY_FAILED"),
    "of its own": (make("laptop", usage=CLIENT_USE), "CERTIFICATE_VERIFY_FAILED"),
}


@pytest.mark.parametrize("kind", [ClientAuth.OPTIONAL, ClientAuth.REQUIRED])
@pytest.mark.parametrize(("pem", "reason"), STRANGERS.values(), ids=STRANGERS.keys())
@pytest.mark.parametrize("version", VERSIONS)
def test_only_a_clients_certificate_from_the_authorities_is_taken(tmp_path, kind, pem, reason, version):
    held = asking(kind)
    held.put(believing(OLD_CA))
    shake(held.context(), client_with(CLIENT, tmp_path, version))
    stranger = client_with(pem, tmp_path, version)
    if pem is None and kind is ClientAuth.OPTIONAL:
        shake(held.context(), stranger)
    else:
        with pytest.raises(ssl.SSLError, match=reason):
            shake(held.context(), stranger)


def test_what_is_in_the_bundle_is_believed_be_it_a_root_or_not(tmp_path):
    """As the operator of one service would want it who is to believe one intermediate of a large authority."""
    held = asking()
    held.put(replace(believing(), authorities=CLIENT.cert))

    shake(held.context(), client_with(CLIENT, tmp_path))


def test_a_bundle_may_say_what_it_holds_in_any_alphabet(tmp_path):
    held = asking()
    held.put(replace(believing(), authorities="# Főtanúsítvány\n".encode() + NEW_CA.pem + b"\n# \xff\n" + OLD_CA.pem))

    shake(held.context(), client_with(CLIENT, tmp_path))


def test_every_name_asks_for_a_clients_certificate(tmp_path):
    held = asking()
    held.put(replace(believing(OLD_CA), pairs=(ONE, TWO)))
    for name in ("one.example", "two.example", "unknown.example"):
        shake(held.context(), client_with(CLIENT, tmp_path), name)
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            shake(held.context(), client_with(), name)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_ends_with_the_authority_of_its_client(tmp_path, version):
    held = asking()
    held.put(believing(OLD_CA))
    client = client_with(CLIENT, tmp_path, version)
    session = shake(held.context(), client).session
    assert shake(held.context(), client, session=session).session_reused
    held.put(believing(NEW_CA, OLD_CA))
    again = shake(held.context(), client, session=session)
    assert not again.session_reused
    held.put(believing(NEW_CA))

    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake(held.context(), client, session=again.session)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_ends_with_any_change_and_when_keys_rotate(version):
    """OpenSSL has one set of keys for all names: the first context's."""
    held = store()
    held.put(Credentials((ONE, TWO)))
    client = client_with(version=version)

    def resumes(session):
        return shake(held.context(), client, "two.example", session).session_reused

    first = shake(held.context(), client, "two.example").session
    assert resumes(first)
    held.rotate()
    assert not resumes(first)
    second = shake(held.context(), client, "two.example").session
    assert resumes(second)
    held.put(Credentials((ONE, named("two", make("two.example")))))
    assert not resumes(second)


def test_rotation_changes_nothing_else():
    held = store()
    with pytest.raises(RuntimeError):
        held.rotate()
    before = held.put(Credentials((ONE, TWO)))
    after = held.rotate()

    assert held.current is after
    assert (after.credentials, after.every) == (before.credentials, before.every)
    assert leaf(shake(held.context(), name="two.example")).encode() == TWO.chain
    assert held.put(Credentials((ONE, TWO))) is after


def test_a_ticket_is_good_for_two_hours():
    """OpenSSL's default for both versions, which `tickets.ROTATION` relies on."""
    held = store()
    held.put(only(ONE))

    assert {shake(held.context(), client_with(version=each)).session.ticket_lifetime_hint for each in VERSIONS} == {
        7200
    }


def calling():
    return Store(Mode.HTTP, TlsProfile.INTERMEDIATE, calls=True)


def with_authorities(pem, pair=GOOD):
    return Credentials((pair,), pem, "ca.pem")


def test_who_calls_nobody_has_no_context_for_it():
    held = store()
    held.put(only(GOOD))

    assert held.current.client is None
    with pytest.raises(RuntimeError):
        held.client()


def test_others_are_called_with_what_is_in_force():
    held = calling()
    first = held.put(with_authorities(PrivateCa.made().pem))
    assert held.client() is first.client is not None
    held.rotate()
    assert held.client() is first.client
    second = held.put(with_authorities(PrivateCa.made().pem))
    assert held.client() is second.client is not first.client
    third = held.put(replace(second.credentials, pairs=(bundle(make("another")),)))
    assert held.client() is third.client is not second.client


def test_bad_authorities_keep_those_before_also_where_no_client_is_asked():
    held = calling()
    with pytest.raises(Rejected, match=r"ca\.pem: empty"):
        held.put(with_authorities(b""))
    first = held.put(with_authorities(PrivateCa.made().pem))
    with pytest.raises(Rejected, match=r"ca\.pem: empty"):
        held.put(with_authorities(b""))
    assert held.client() is first.client


def test_clients_are_not_asked_because_others_are_called():
    held = calling()
    held.put(with_authorities(PrivateCa.made().pem))

    assert held.context().verify_mode is ssl.CERT_NONE
