"""The profiles are what this process, and OpenSSL's configuration, are held to."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

import sslterm
from sslterm.certs.profiles import HYBRID, PROFILES
from sslterm.settings import TlsProfile

CONFIGURATION = Path(sslterm.__file__).with_name("openssl.cnf").read_text()


def test_every_profile_is_there():
    assert set(PROFILES) == set(TlsProfile)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_configuration_has_the_groups_of_each_profile_and_the_hybrid_first(profile):
    lines = re.findall(r"^[0-9]\.Groups = (.*)$", CONFIGURATION, flags=re.MULTILINE)

    assert lines == [":".join(profile.groups), ":".join((HYBRID, *profile.groups))]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_versions_and_ciphers_are_known_to_openssl(profile):
    assert [ssl.TLSVersion[each] for each in profile.versions] == sorted(ssl.TLSVersion[v] for v in profile.versions)
    known = subprocess.run(["openssl", "ciphers", "ALL"], capture_output=True, text=True, check=True).stdout.strip()
    assert set(profile.ciphers) | set(profile.ciphersuites) <= set(known.split(":"))


def test_openssls_own_choice_for_tls_1_3_is_that_of_the_profiles():
    """Python cannot set it."""
    ciphers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
    offered = {each["name"] for each in ciphers if each["protocol"] == "TLSv1.3"}

    assert [set(profile.ciphersuites) for profile in PROFILES.values()] == [offered, offered]
