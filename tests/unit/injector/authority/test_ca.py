"""A root is made once, never replaced by itself, and rotated so that nobody notices."""

import datetime as dt
import json
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from byfahrer.authority.ca import FILE, OVERLAP, OwnRoot, SharedRoot, Terms, new_root
from byfahrer.authority.certificates import CLIENT, pem
from byfahrer.authority.errors import AuthorityError, StateError
from byfahrer.authority.names import Names
from byfahrer.authority.state import StateFolder
from lab.authority import KEY, Clock, certificates, shake_hands, verify

DAY = dt.timedelta(days=1)
NAMES = Names(
    dns=("localhost", "www"), addresses=("127.0.0.1", "::1"), spiffe="spiffe://byfahrer.internal/ns/default/svc/www"
)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return StateFolder(tmp_path / "state")


def issued(ca, clock, names=NAMES, lifetime=DAY, **more):
    return ca.issuer().issue(KEY.public_key(), names, lifetime, clock(), **more)


def test_the_root_is_a_p256_authority_of_ten_years_made_once_and_for_us_only(folder, clock):
    first = OwnRoot(folder, now=clock).issuer()
    second = OwnRoot(folder, now=clock).issuer()
    (root,) = first.roots

    assert first.authorities == second.authorities
    assert isinstance(root.public_key().curve, ec.SECP256R1)
    assert root.not_valid_after_utc - clock() == dt.timedelta(days=3650)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()} == {FILE: 0o600, "lock": 0o600}


def test_processes_that_start_at_once_share_one_root(folder):
    script = "import sys; from pathlib import Path; from byfahrer.authority.ca import *; from byfahrer.authority.state \
import StateFolder; print(OwnRoot(StateFolder(Path(sys.argv[1]))).issuer().mark)"
    started = [
        subprocess.Popen([sys.executable, "-c", script, folder.path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    marks = {each.communicate()[0] for each in started}

    assert len(marks) == 1
    assert marks != {b""}


def test_threads_that_start_at_once_share_one_root(folder, clock):
    marks = []
    threads = [
        threading.Thread(target=lambda: marks.append(OwnRoot(folder, now=clock).issuer().mark)) for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(marks) == 8
    assert len(set(marks)) == 1


def test_a_leaf_says_what_it_should_and_no_more(folder, clock):
    ca = OwnRoot(folder, now=clock)
    made = issued(ca, clock)
    (leaf,) = certificates(made.chain)
    extensions = {each.oid: each for each in leaf.extensions}
    general = extensions[x509.SubjectAlternativeName.oid].value

    assert leaf.subject.rfc4514_string() == "CN=www"
    assert general.get_values_for_type(x509.DNSName) == ["localhost", "www"]
    assert [str(each) for each in general.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert general.get_values_for_type(x509.UniformResourceIdentifier) == [NAMES.spiffe]
    assert not extensions[x509.BasicConstraints.oid].value.ca
    assert [each._name for each in extensions[x509.ExtendedKeyUsage.oid].value] == ["serverAuth", "clientAuth"]
    usage = extensions[x509.KeyUsage.oid].value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, False, False)
    (root,) = ca.issuer().roots
    root_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions[x509.AuthorityKeyIdentifier.oid].value.key_identifier == root_id
    assert x509.SubjectKeyIdentifier.oid in extensions
    assert leaf.not_valid_after_utc - clock() == DAY
    assert leaf.serial_number.bit_length() > 100
    assert issued(ca, clock).serial != made.serial
    assert made.serial == f"{leaf.serial_number:x}"


def test_a_leaf_begins_five_minutes_ago_but_not_before_its_issuer_and_ends_not_after_it(folder, clock):
    ca = OwnRoot(folder, now=clock)
    (root,) = ca.issuer().roots
    clock.pass_(seconds=-30)
    assert issued(ca, clock).not_before == root.not_valid_before_utc
    clock.pass_(days=3649, seconds=30)
    made = issued(ca, clock, lifetime=2 * DAY)

    assert clock() - made.not_before == dt.timedelta(minutes=5)
    assert made.not_after == root.not_valid_after_utc


@pytest.mark.parametrize(("days", "said"), [(3650, "is over since"), (-1, "is the clock right")])
def test_nothing_is_signed_by_a_root_that_is_not_valid(folder, clock, days, said):
    ca = OwnRoot(folder, now=clock)
    clock.pass_(days=days)
    with pytest.raises(AuthorityError, match=said):
        issued(ca, clock)


def test_the_end_of_a_root_is_announced_a_month_before(folder, clock):
    ca = OwnRoot(folder, now=clock)
    clock.pass_(days=3619)
    assert ca.issuer().warning(clock()) == ""
    clock.pass_(days=2)
    assert "CN=byfahrer authority" in ca.issuer().warning(clock())
    assert " ends at " in ca.issuer().warning(clock())
    clock.pass_(days=30)
    assert " ended at " in ca.issuer().warning(clock())


def test_a_long_name_is_no_common_name(folder, clock, tmp_path):
    ca = OwnRoot(folder, now=clock)
    long = "a" * 40 + "." + "b" * 40
    made = issued(ca, clock, Names(dns=(long,), spiffe=NAMES.spiffe))

    assert made.certificate.subject.rfc4514_string() == ""
    assert made.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    assert verify(tmp_path, made.chain, ca.issuer().authorities, name=long) == ""


def test_openssl_verifies_servers_and_clients(folder, clock, tmp_path):
    ca = OwnRoot(folder, now=clock)
    made, roots = issued(ca, clock), ca.issuer().authorities
    client = issued(ca, clock, usages=CLIENT)

    assert verify(tmp_path, made.chain, roots, "-purpose", "sslserver", name="www") == ""
    assert verify(tmp_path, made.chain, roots, "-purpose", "sslclient") == ""
    assert verify(tmp_path, client.chain, roots, "-purpose", "sslclient") == ""
    assert "unsuitable certificate purpose" in verify(tmp_path, client.chain, roots, "-purpose", "sslserver")
    assert "ostname mismatch" in verify(tmp_path, made.chain, roots, name="other")


def test_a_trust_domain_that_was_asked_for_limits_the_root(folder, clock, tmp_path):
    ca = OwnRoot(folder, Terms(trust_domain="shop.example", permit_dns=("shop", "lan")), now=clock)
    issuer = ca.issuer()
    names = Names(
        dns=("localhost", "www", "db.lan", "lan", "notlan"),
        addresses=("10.0.0.1",),
        spiffe="spiffe://shop.example/ns/a/svc/b",
    )
    made = issued(ca, clock, names)

    assert issuer.roots[0].extensions.get_extension_for_class(x509.NameConstraints).critical
    assert made.names == Names(dns=("db.lan", "lan"), addresses=("10.0.0.1",), spiffe=names.spiffe)
    assert verify(tmp_path, made.chain, issuer.authorities, "-purpose", "sslserver", name="db.lan") == ""
    # What a thief of the key could sign beyond the limits, nobody believes.
    wide = dataclass_without_limits(issuer)
    for foreign in (Names(dns=("bank",)), Names(dns=("a.lan",), spiffe="spiffe://bank.example/ns/a/svc/b")):
        forged = wide.issue(KEY.public_key(), foreign, DAY, clock())
        assert "permitted subtree violation" in verify(tmp_path, forged.chain, issuer.authorities)


def dataclass_without_limits(issuer):
    from dataclasses import replace

    from byfahrer.authority.constraints import Constraints

    return replace(issuer, constraints=Constraints([]))


def test_a_name_that_the_root_does_not_permit_is_no_common_name_either(folder, clock, tmp_path):
    ca = OwnRoot(folder, Terms(permit_dns=("lan",)), now=clock)
    made = issued(ca, clock)

    assert made.names.dns == ()
    assert verify(tmp_path, made.chain, ca.issuer().authorities, "-purpose", "sslserver") == ""


@pytest.mark.parametrize(
    ("made", "asked", "said"),
    [
        (Terms(trust_domain="a.example"), Terms(trust_domain="b.example"), "for the trust domain a.example, not b.exa"),
        (Terms(), Terms(trust_domain="byfahrer.internal"), "not limited to the trust domain byfahrer.internal, as"),
        (Terms(), Terms(permit_dns=("lan",)), "not limited to the trust domain byfahrer.internal, as"),
        (Terms(trust_domain="a"), Terms(trust_domain="a", permit_dns=("b",)), "permits the DNS domains all, not b"),
    ],
)
def test_other_terms_are_an_error_that_says_what_to_do(folder, clock, made, asked, said):
    OwnRoot(folder, made, now=clock)
    with pytest.raises(StateError, match=said) as error:
        OwnRoot(folder, asked, now=clock)

    assert str(error.value).startswith(f"{folder.path / FILE}: ")
    assert "byfahrer ca rotate --trust-domain " in str(error.value)
    assert "\n" not in str(error.value)


def test_no_terms_take_what_is_there(folder, clock):
    OwnRoot(folder, Terms(trust_domain="a.example"), now=clock)

    assert OwnRoot(folder, now=clock).issuer().trust_domain == "a.example"


DAMAGE = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "no object": lambda text: "[]",
    "no key": lambda text: json.dumps({**json.loads(text), "key": ""}),
    "null": lambda text: json.dumps({**json.loads(text), "previous": None}),
    "a number": lambda text: json.dumps({**json.loads(text), "root": 1}),
    "a bad domain": lambda text: json.dumps({**json.loads(text), "trust_domain": "A/b"}),
    "a bad time": lambda text: json.dumps(
        {**json.loads(text), "previous": [{"root": "", "cross": None, "until": "1"}]}
    ),
    "other form": lambda text: json.dumps({**json.loads(text), "form": 99}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_state_is_one_line_and_stays_as_it_is(folder, clock, damage):
    OwnRoot(folder, now=clock)
    path = folder.path / FILE
    path.write_text(DAMAGE[damage](path.read_text()))
    before = path.read_bytes()
    with pytest.raises(StateError) as error:
        OwnRoot(folder, now=clock)

    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "PRIVATE KEY" not in str(error.value)
    assert path.read_bytes() == before


def test_a_key_and_root_that_do_not_belong_together_are_refused(folder, clock, tmp_path):
    OwnRoot(folder, now=clock)
    other = StateFolder(tmp_path / "other")
    OwnRoot(other, now=clock)
    mixed = json.loads(folder.read(FILE)) | {"key": json.loads(other.read(FILE))["key"]}
    folder.write(FILE, json.dumps(mixed).encode())
    with pytest.raises(StateError, match="its key and root do not belong together"):
        OwnRoot(folder, now=clock)


def test_in_the_overlap_of_a_rotation_everybody_verifies_everybody(folder, clock, tmp_path):
    ca = OwnRoot(folder, now=clock)
    old_roots, old_leaf = ca.issuer().authorities, issued(ca, clock)
    clock.pass_(days=10)
    old_leaf = issued(ca, clock)
    after = ca.rotate()
    new_leaf = issued(ca, clock)
    new_root, old_root = after.roots
    only_new = pem(new_root)

    assert old_roots == pem(old_root)
    assert new_leaf.certificate.issuer == new_root.subject != old_root.subject
    for chain in (old_leaf.chain, new_leaf.chain):
        assert verify(tmp_path, chain, after.authorities, "-purpose", "sslserver", at=clock()) == ""
    assert verify(tmp_path, new_leaf.chain, old_roots, "-purpose", "sslserver", at=clock(), name="www") == ""
    assert verify(tmp_path, new_leaf.chain, only_new, "-purpose", "sslserver", at=clock(), name="www") == ""
    assert verify(tmp_path, old_leaf.chain, only_new, at=clock()) != ""


def test_tls_clients_shake_hands_in_the_overlap_whichever_root_they_know(folder, tmp_path):
    ca = OwnRoot(folder, Terms(trust_domain="shop.example"))
    names = Names(dns=("www",), spiffe="spiffe://shop.example/ns/a/svc/b")
    old = ca.issuer()
    after = ca.rotate()
    leaf = after.issue(KEY.public_key(), names, DAY, dt.datetime.now(dt.UTC))
    stranger = OwnRoot(StateFolder(tmp_path / "stranger")).issuer()

    for roots in (old.authorities, pem(after.roots[0]), after.authorities):
        shake_hands(tmp_path / "tls", leaf.chain, roots, "www")
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake_hands(tmp_path / "tls", leaf.chain, stranger.authorities, "www")


def test_after_the_overlap_the_old_root_is_believed_no_more(folder, clock, tmp_path):
    ca = OwnRoot(folder, now=clock)
    old = ca.issuer().authorities
    during = ca.rotate(2 * DAY)
    clock.pass_(days=2)
    after = ca.issuer()
    made = issued(ca, clock)

    assert (len(during.roots), len(after.roots)) == (2, 1)
    assert during.mark != after.mark
    assert len(certificates(made.chain)) == 1
    assert verify(tmp_path, made.chain, old, at=clock()) != ""
    assert verify(tmp_path, made.chain, after.authorities, at=clock()) == ""


def test_a_rotation_without_overlap_ends_all_trust_in_older_roots(folder, clock):
    ca = OwnRoot(folder, now=clock)
    ca.rotate()
    clock.pass_(days=1)

    assert len(ca.rotate(dt.timedelta(0)).roots) == 1


def test_rotations_in_a_row_keep_every_root_that_is_still_in_its_overlap(folder, clock, tmp_path):
    ca = OwnRoot(folder, now=clock)
    first = ca.issuer().authorities
    clock.pass_(days=1)
    second = pem(ca.rotate().roots[0])
    clock.pass_(days=1)
    third = ca.rotate()
    made = issued(ca, clock)

    assert len(third.roots) == 3
    for roots in (first, second, pem(third.roots[0])):
        assert verify(tmp_path, made.chain, roots, "-purpose", "sslserver", at=clock()) == ""
    clock.pass_(days=6)  # the first one's overlap ends
    assert len(ca.issuer().roots) == 2
    assert verify(tmp_path, issued(ca, clock).chain, second, at=clock()) == ""
    clock.pass_(days=1)
    assert len(ca.issuer().roots) == 1


def test_a_short_overlap_shortens_the_one_before(folder, clock):
    ca = OwnRoot(folder, now=clock)
    ca.rotate(30 * DAY)
    assert len(ca.rotate(DAY).roots) == 3
    clock.pass_(days=1)

    assert len(ca.issuer().roots) == 1


def test_a_rotation_forgets_the_old_key_and_keeps_the_terms(folder, clock):
    ca = OwnRoot(folder, Terms(trust_domain="a.example", permit_dns=("lan",)), now=clock)
    key = json.loads(folder.read(FILE))["key"]
    ca.rotate()

    assert key not in folder.read(FILE).decode()
    assert folder.read(FILE).decode().count("PRIVATE KEY") == 2
    OwnRoot(folder, Terms(trust_domain="a.example", permit_dns=("lan",)), now=clock)


def test_a_rotation_to_another_trust_domain_believes_the_old_root_but_does_not_stand_on_it(folder, clock, tmp_path):
    ca = OwnRoot(folder, Terms(trust_domain="a.example"), now=clock)
    old = issued(ca, clock, Names(dns=("www",), spiffe="spiffe://a.example/ns/a/svc/b"))
    after = ca.rotate(OVERLAP, Terms(trust_domain="b.example"))
    new = issued(ca, clock, Names(dns=("www",), spiffe="spiffe://b.example/ns/a/svc/b"))

    assert after.trust_domain == "b.example"
    assert len(certificates(new.chain)) == 1
    for made in (old, new):
        assert verify(tmp_path, made.chain, after.authorities, at=clock()) == ""
    OwnRoot(folder, Terms(trust_domain="b.example"), now=clock)


def test_one_process_notices_the_rotation_of_another(folder, clock):
    daemon, command = OwnRoot(folder, now=clock), OwnRoot(folder, now=clock)
    before = daemon.issuer().mark
    rotated = command.rotate()

    assert before != rotated.mark
    assert daemon.issuer().mark == rotated.mark


@pytest.mark.parametrize("change", ["damage", "removal"])
def test_a_root_that_is_damaged_under_a_running_daemon_is_told_once_and_stays_in_use(folder, clock, change, said):
    ca = OwnRoot(folder, now=clock)
    before = ca.issuer().mark
    if change == "damage":
        (folder.path / FILE).write_text("{")
    else:
        (folder.path / FILE).unlink()

    assert [ca.issuer().mark, ca.issuer().mark] == [before, before]
    assert len([line for line in said if line.startswith(f"Certificate authority: {folder.path / FILE}: ")]) == 1


def test_a_repr_shows_no_key(folder, clock):
    issuer = OwnRoot(folder, now=clock).issuer()

    assert "key=" not in repr(issuer)
    assert "PrivateKey" not in repr(issuer)


# A root that others keep.


@pytest.fixture
def shared(tmp_path, clock):
    path = tmp_path / "byfahrer-ca"
    path.write_bytes(new_root(Terms(), clock()))
    return path


def test_all_who_share_a_root_sign_alike(shared, clock, tmp_path):
    one, other = SharedRoot(shared, now=clock), SharedRoot(shared, now=clock)

    assert one.issuer().mark == other.issuer().mark
    assert verify(tmp_path, issued(one, clock).chain, other.issuer().authorities, at=clock()) == ""


def test_a_shared_root_that_was_rotated_comes_with_the_one_before(shared, clock, tmp_path):
    ca = SharedRoot(shared, now=clock)
    before = ca.issuer()
    late = before.issue(KEY.public_key(), NAMES, DAY, clock())
    shared.write_bytes(ca.rotated())
    after = ca.issuer()
    early = after.issue(KEY.public_key(), NAMES, DAY, clock())

    assert after.roots[1] == before.roots[0] != after.roots[0]
    assert verify(tmp_path, late.chain, after.authorities, at=clock()) == ""
    assert verify(tmp_path, early.chain, before.authorities, at=clock()) == ""


def test_a_shared_root_that_gets_damaged_is_told_and_the_one_before_used(shared, clock):
    ca = SharedRoot(shared, now=clock)
    before = ca.issuer().mark
    shared.write_bytes(b"{")

    assert ca.issuer().mark == before
    with pytest.raises(StateError, match="it is damaged"):
        SharedRoot(shared, now=clock)


def test_a_shared_root_that_is_not_there_or_for_others_is_refused(shared, clock, tmp_path):
    with pytest.raises(StateError, match="No such file"):
        SharedRoot(tmp_path / "nowhere")
    with pytest.raises(StateError, match=r"for the trust domain byfahrer\.internal, not example\.org"):
        SharedRoot(shared, Terms(trust_domain="example.org"), now=clock)
