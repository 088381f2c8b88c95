"""An issuer that the operator brought works as ours does, or is refused with one line that says why."""

import dataclasses
import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from byfahrer.authority.brought import Brought, load
from byfahrer.authority.certificates import pem
from byfahrer.authority.errors import IssuerError
from byfahrer.authority.names import Names
from lab.authority import KEY, NOW, Clock, certificates, general_name, key_pem, verify

DAY = dt.timedelta(days=1)
TD = "byfahrer.internal"
NAMES = Names(dns=("www", "www.lan"), addresses=("10.0.0.1", "192.168.0.1"), spiffe=f"spiffe://{TD}/ns/default/svc/www")
ROOT_KEY = ec.generate_private_key(ec.SECP384R1())


def certify(name, key, issuer=None, *, signer=None, ca=True, pathlen=None, begins=-1, ends=365, sign=True, more=()):
    """An authority as somebody else's tools might make it."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = signer or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + begins * DAY)
        .not_valid_after(NOW + ends * DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=pathlen), critical=True)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    builder = builder.add_extension(
        x509.KeyUsage(digital_signature=True, key_cert_sign=sign, crl_sign=sign, **usage), critical=True
    )
    for extension in more:
        builder = builder.add_extension(extension, critical=True)
    special = ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    return builder.sign(signer, None if isinstance(signer, special) else hashes.SHA256())


ROOT = certify("root", ROOT_KEY)


@pytest.fixture
def files(tmp_path):
    """Writes a chain and a key, and says where."""

    def write(chain, key):
        (tmp_path / "ca.pem").write_text(pem(*chain))
        (tmp_path / "ca.key").write_bytes(key if isinstance(key, bytes) else key_pem(key))
        return tmp_path / "ca.pem", tmp_path / "ca.key"

    return write


@pytest.mark.parametrize(
    "key",
    [ROOT_KEY, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()],
    ids=["P-384", "RSA-2048", "Ed25519"],
)
def test_a_root_signs(files, tmp_path, key):
    root = certify("root", key)
    issuer = load(*files([root], key), TD, NOW)
    made = issuer.issue(KEY.public_key(), NAMES, DAY, NOW)

    assert len(certificates(made.chain)) == 1
    assert made.names == NAMES
    assert verify(tmp_path, made.chain, issuer.authorities, "-purpose", "sslserver", name="www") == ""


def test_an_intermediate_signs_and_its_chain_leads_to_the_root(files, tmp_path):
    upper_key, lower_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    upper = certify("upper", upper_key, ROOT, signer=ROOT_KEY, pathlen=1)
    lower = certify("lower", lower_key, upper, signer=upper_key, pathlen=0, ends=1)
    issuer = load(*files([lower, upper, ROOT], lower_key), TD, NOW)
    made = issuer.issue(KEY.public_key(), NAMES, 7 * DAY, NOW)

    assert [each.subject for each in certificates(made.chain)[1:]] == [lower.subject, upper.subject]
    assert issuer.authorities == pem(ROOT)
    assert made.not_after == lower.not_valid_after_utc
    assert verify(tmp_path, made.chain, pem(ROOT), "-purpose", "sslserver", name="www") == ""
    assert issuer.warning(NOW) == ""
    assert "CN=lower ends at" in issuer.warning(NOW + DAY * 0.9)


FOREIGN = x509.NameConstraints([x509.UniformResourceIdentifier("other.example")], None)
SIGNING_CODE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
FAULTS = {
    "no match": ([ROOT], KEY, "ca.key: it does not belong to the first certificate in "),
    "no authority": ([certify("x", KEY, ca=False)], KEY, "is no certificate authority (basicConstraints: CA:TRUE"),
    "nothing said": ([certify("x", KEY, ca=None)], KEY, "is no certificate authority"),
    "no signing": ([certify("x", KEY, sign=False)], KEY, "may not sign certificates (keyUsage: keyCertSign is mi"),
    "expired": ([certify("x", KEY, begins=-9, ends=-1)], KEY, "is expired since 2026-11-23 12:00 UTC"),
    "too early": ([certify("x", KEY, begins=1)], KEY, "is not valid before 2026-11-25 12:00 UTC"),
    "no root": ([certify("x", KEY, ROOT, signer=ROOT_KEY)], KEY, "not self-signed; expected the chain up to a root"),
    "wrong order": ([ROOT, certify("x", KEY, ROOT, signer=ROOT_KEY)], ROOT_KEY, "is not signed by the next one"),
    "a stranger above": ([certify("x", KEY, ROOT, signer=KEY), ROOT], KEY, "1 of 2 (CN=x) is not signed by"),
    "path length": (
        [certify("x", KEY, (top := certify("top", ROOT_KEY, pathlen=0)), signer=ROOT_KEY), top], KEY,
        "certificate 2 of 2 (CN=top) allows 0 authorities below it (pathlen), and there are 1",
    ),
    "other use": (
        [certify("x", KEY, more=[SIGNING_CODE])], KEY,
        "may not sign for TLS servers and clients (extendedKeyUsage)",
    ),
    "other domain": ([certify("x", KEY, more=[FOREIGN])], KEY, "do not permit the trust domain byfahrer.internal"),
    "too long": ([ROOT] * 9, ROOT_KEY, "expected a chain of at most 8 certificates"),
    "weak EC": ([certify("x", (weak := ec.generate_private_key(ec.SECP224R1())))], weak, "its 224 bits are too few"),
    "weak RSA": ([certify("x", (soft := rsa.generate_private_key(65537, 1024)))], soft, "its 1024 bits are too few"),
    "odd key": ([certify("x", (odd := ed448.Ed448PrivateKey.generate()))], odd, "expected a key of EC, RSA or Ed25519"),
    "no key": ([ROOT], b"x", "ca.key: expected a private key in PEM"),
    "no certificate": ([], ROOT_KEY, "ca.pem: expected certificates in PEM, the issuing one first"),
    "encrypted": (
        [ROOT], ROOT_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "ca.key: it is encrypted; expected a key without a password",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_clear_line(files, fault):
    chain, key, said = FAULTS[fault]
    cert, key = files(chain, key)
    with pytest.raises(IssuerError) as error:
        load(cert, key, TD, NOW)

    assert said in str(error.value)
    assert str(error.value).startswith("--ca-")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(IssuerError, match=f"^--ca-cert {tmp_path / 'a'}: No such file or directory$"):
        load(tmp_path / "a", tmp_path / "b", TD, NOW)


def test_names_outside_of_the_constraints_are_left_out(files, tmp_path):
    permitted = [x509.DNSName("lan"), x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")),
                 x509.UniformResourceIdentifier(TD)]  # fmt: skip
    root = certify("root", ROOT_KEY, more=[x509.NameConstraints(permitted, [general_name("db.lan")])])
    issuer = load(*files([root], ROOT_KEY), TD, NOW)
    wide = dataclasses.replace(NAMES, dns=("www", "www.lan", "db.lan", "a.db.lan"))
    made = issuer.issue(KEY.public_key(), wide, DAY, NOW)

    assert made.names == dataclasses.replace(NAMES, dns=("www.lan",), addresses=("10.0.0.1",))
    assert verify(tmp_path, made.chain, issuer.authorities, "-purpose", "sslserver", name="www.lan") == ""


def test_files_that_change_are_read_anew_and_bad_ones_told_once(files, said):
    clock = Clock()
    brought = Brought(*files([ROOT], ROOT_KEY), TD, now=clock)
    first = brought.issuer()
    files([certify("x", KEY)], ROOT_KEY)
    assert brought.issuer() is first
    assert brought.issuer() is first
    files([certify("x", KEY)], KEY)
    second = brought.issuer()

    assert second.certificate.subject.rfc4514_string() == "CN=x"
    assert first.mark != second.mark
    assert len([line for line in said if "stays in use" in line]) == 1
