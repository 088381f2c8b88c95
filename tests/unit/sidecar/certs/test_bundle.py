"""What is wrong with a PEM file is told by its name, before OpenSSL says "PEM lib"."""

from __future__ import annotations

import hashlib
import ssl
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.certificates import make
from sslterm.certs.bundle import Bundle, Rejected, authorities_in

GOOD = make("localhost")
LOCKED = make("localhost", passphrase=b"secret")
OLD_LOCKED = b"""-----BEGIN EC %b-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00

AAAA
-----END EC %b-----
""" % ((b"PRIVATE KEY",) * 2)  # put together, or scanners would take it for a leaked key
TINY = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"


def bundle(cert=GOOD.cert, key=GOOD.key):
    return Bundle(cert, key, "c.pem", "k.pem")


def test_a_good_pair_passes():
    bundle().check()
    bundle(GOOD.key + GOOD.cert + GOOD.cert, GOOD.cert + GOOD.key).check()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"cert": b""}, "c.pem: the file is empty"),
        ({"key": b" \n"}, "k.pem: the file is empty"),
        ({"cert": b"hello"}, "c.pem: not PEM"),
        ({"key": b"\x30\x82"}, "k.pem: DER"),
        ({"cert": GOOD.key}, "c.pem: holds no certificate, only private key"),
        ({"key": GOOD.cert}, "k.pem: holds no private key, only certificate"),
        ({"cert": GOOD.cert[:200]}, "c.pem: cut short"),
        ({"key": GOOD.key[:-20]}, "k.pem: cut short"),
        ({"cert": GOOD.cert.replace(b"M", b"*", 1)}, "c.pem: damaged, not base64"),
        ({"cert": GOOD.cert + GOOD.cert[:100]}, "c.pem: cut short"),
        ({"cert": TINY}, "c.pem: damaged, the certificate has 3"),
        ({"key": LOCKED.key}, "k.pem: the key is encrypted"),
        ({"key": OLD_LOCKED}, "k.pem: the key is encrypted"),
    ],
)
def test_each_fault_names_its_file(parts, message):
    with pytest.raises(Rejected) as error:
        bundle(**parts).check()

    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(st.binary(max_size=80), st.integers(0, len(GOOD.cert)), st.integers(0, len(GOOD.cert)))
def test_damage_anywhere_is_a_verdict_or_passes_but_never_a_crash(noise, at, until):
    damaged = GOOD.cert[:at] + noise + GOOD.cert[until:]
    try:
        bundle(damaged).check()
    except Rejected:
        return

    assert bundle(damaged).leaf()


def test_a_megabyte_of_beginnings_costs_no_time():
    began = time.process_time()
    with pytest.raises(Rejected, match="cut short"):
        authorities_in(b"-----BEGIN A-----" * 60_000, "file")
    assert time.process_time() - began < 2


def test_the_fingerprint_is_that_of_the_leaf():
    der = ssl.PEM_cert_to_DER_cert(GOOD.cert.decode())

    assert bundle(GOOD.key + GOOD.cert + make("other").cert).fingerprint == hashlib.sha256(der).hexdigest()


def test_the_key_does_not_show():
    assert GOOD.key.splitlines()[1].decode() not in repr(bundle())


def test_equal_bytes_are_the_same_certificate_wherever_they_are_from():
    assert bundle() == Bundle(GOOD.cert, GOOD.key, "elsewhere", "too")
    assert bundle() != bundle(key=LOCKED.key)
