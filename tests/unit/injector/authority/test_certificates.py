"""A request is read strictly: a key that is proven and strong, and names of the kinds that we give."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.authority.certificates import read_request, same_key
from byfahrer.authority.errors import RequestError
from byfahrer.authority.names import Names
from lab.authority import KEY, request

PLAIN = request()


@pytest.mark.parametrize(
    "key",
    [KEY, ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate(),
     rsa.generate_private_key(65537, 2048)],
    ids=["P-256", "P-384", "Ed25519", "RSA-2048"],
)  # fmt: skip
def test_strong_keys_are_taken(key):
    public_key, names = read_request(request(key=key))

    assert same_key(public_key, key.public_key())
    assert names == Names()


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP224R1()), ec.generate_private_key(ec.SECP521R1()),
     ec.generate_private_key(ec.SECP256K1()), rsa.generate_private_key(65537, 1024)],
    ids=["P-224", "P-521", "secp256k1", "RSA-1024"],
)  # fmt: skip
def test_other_keys_are_refused(key):
    with pytest.raises(RequestError, match="expected a key of EC P-256, P-384, Ed25519, or RSA with 2048 bits or more"):
        read_request(request(key=key))


def test_a_key_of_a_kind_that_nobody_uses_is_refused():
    from cryptography.hazmat.primitives.serialization import Encoding

    csr = (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(ed448.Ed448PrivateKey.generate(), None)
    )
    with pytest.raises(RequestError, match="expected a key"):
        read_request(csr.public_bytes(Encoding.PEM))


def test_names_are_read_from_all_places_in_lower_case():
    text = request("WWW", "10.0.0.1", common_name="Api", uris=["spiffe://td/x"])

    assert read_request(text)[1] == Names(dns=("www", "api"), addresses=("10.0.0.1",), spiffe="spiffe://td/x")
    assert read_request(request(common_name="::1"))[1] == Names(addresses=("::1",))


@pytest.mark.parametrize(
    "text",
    [
        request(uris=["spiffe://td/x", "spiffe://td/y"]),
        request(others=[x509.RFC822Name("a@b.example")]),
        request("www", others=[x509.DirectoryName(x509.Name([]))]),
    ],
    ids=["two URIs", "mail", "directory name"],
)
def test_names_of_other_kinds_are_refused(text):
    with pytest.raises(RequestError, match="expected DNS names, addresses and one URI at most"):
        read_request(text)


def test_a_request_that_was_changed_is_refused():
    import base64

    lines = PLAIN.decode().split("\n")
    der = bytearray(base64.b64decode("".join(lines[1:-2])))
    der[-1] ^= 1
    text = f"{lines[0]}\n{base64.encodebytes(der).decode()}{lines[-2]}\n"
    with pytest.raises(RequestError, match="the signature of the certificate request does not fit its key"):
        read_request(text.encode())


@pytest.mark.parametrize("text", [b"", b"x", PLAIN[:100], PLAIN.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE")])
def test_what_is_no_request_is_refused(text):
    with pytest.raises(RequestError, match=r"expected a certificate request \(CSR\) in PEM"):
        read_request(text)


@settings(deadline=None)
@given(st.data())
def test_any_bytes_are_a_request_or_refused(data):
    text = data.draw(st.binary(max_size=300))
    at = data.draw(st.integers(0, len(PLAIN)))
    for candidate in (text, PLAIN[:at] + text + PLAIN[at + len(text) :]):
        try:
            public_key, _ = read_request(candidate)
        except RequestError:
            continue
        assert same_key(public_key, KEY.public_key())
