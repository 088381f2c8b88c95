"""Versions, ciphers and groups are those of Mozilla's profiles: asked by OpenSSL's client, and read off the wire."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess

import pytest

from lab.certificates import make
from lab.sidecar import PATIENCE, free_port, sidecar
from sslterm.certs.profiles import HYBRID, PROFILES

GROUPS = {0x001D: "X25519", 0x0017: "P-256", 0x0018: "P-384", 0x11EC: "X25519MLKEM768"}


@pytest.fixture(scope="module", params=["intermediate", "modern"])
def profile(request):
    with sidecar(f"--frontend-addr=127.0.0.1:{free_port()}", f"--tls-profile={request.param}") as running:
        yield request.param, running


def s_client(running, *options):
    """What `openssl s_client` says, or None if there was no handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, input="", check=False)
    return result.stdout if result.returncode == 0 else None


def test_versions(profile):
    name, running = profile
    old = "-cipher", "ALL:@SECLEVEL=0"
    asked = {"TLSv1_3": ["-tls1_3"], "TLSv1_2": ["-tls1_2"], "TLSv1_1": ["-tls1_1", *old], "TLSv1": ["-tls1", *old]}

    assert {each for each, how in asked.items() if s_client(running, *how)} == set(PROFILES[name].versions)


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
@pytest.mark.parametrize("name", PROFILES)
def test_ciphers_of_tls_1_2(tmp_path, name, kind):
    """All that OpenSSL knows are tried. DHE is allowed by the profile, and never offered: it has no parameters here."""
    cert, key = make("localhost", rsa_bits=2048 if kind == "RSA" else 0).write(tmp_path)
    everything = subprocess.run(["openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
                                capture_output=True, text=True, check=True).stdout.strip().split(":")  # fmt: skip
    expected = {each for each in PROFILES[name].ciphers if each.startswith(f"ECDHE-{kind}-")}
    flags = [f"--tls-profile={name}", f"--cert={cert}", f"--key={key}"]
    with sidecar(f"--frontend-addr=127.0.0.1:{free_port()}", *flags) as running:
        accepted = {each for each in everything if s_client(running, "-tls1_2", "-cipher", f"{each}:@SECLEVEL=0")}

    assert accepted == expected


def test_ciphers_of_tls_1_3(profile):
    name, running = profile
    everything = {
        "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    }  # fmt: skip
    accepted = {
        each for each in everything if s_client(running, "-tls1_3", "-cipher", "ALL:@SECLEVEL=0", "-ciphersuites", each)
    }

    assert accepted == set(PROFILES[name].ciphersuites)


def test_groups(profile):
    """X448 and P-521 are what Python offers by default, and what the profiles forbid."""
    name, running = profile
    offered = {"X25519", "P-256", "P-384", "X448", "P-521", "ffdhe2048"}

    assert {each for each in offered if s_client(running, "-groups", each)} == set(PROFILES[name].groups)


def group_asked_for(port: int, *groups: int) -> int | None:
    """Offer `groups` and no key share yet; the group that the server's HelloRetryRequest asks for (RFC 8446, 4.1.4)."""
    extensions = b"".join(
        struct.pack("!HH", kind, len(body)) + body
        for kind, body in [
            (0x2B, b"\x02\x03\x04"),
            (0x0D, struct.pack("!HHH", 4, 0x0403, 0x0804)),
            (0x0A, struct.pack(f"!H{len(groups)}H", 2 * len(groups), *groups)),
            (0x33, b"\x00\x00"),
        ]
    )
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + struct.pack("!H", len(extensions))
    hello = b"\x01" + (len(body) + len(extensions)).to_bytes(3, "big") + body + extensions
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as raw:
        raw.sendall(b"\x16\x03\x01" + struct.pack("!H", len(hello)) + hello)
        stream = raw.makefile("rb")
        kind, _, length = struct.unpack("!BHH", stream.read(5))
        record = stream.read(length)
    if kind != 0x16 or record[0] != 2:
        return None
    at = 4 + 2 + 32
    at += 1 + record[at] + 2 + 1 + 2
    while at < len(record):
        extension, size = struct.unpack("!HH", record[at : at + 4])
        if extension == 0x33:
            return int(struct.unpack("!H", record[at + 4 : at + 6])[0])
        at += 4 + size
    return None


def test_the_server_asks_for_a_group_of_the_profile(profile):
    """Read from the bytes: a Groups line that is refused as a whole would leave X448 (0x1E) and P-521 (0x19) in."""
    _, running = profile
    x448, p521 = 0x001E, 0x0019

    assert GROUPS.get(group_asked_for(running.port, x448, p521, 0x001D)) == "X25519"
    assert GROUPS.get(group_asked_for(running.port, x448, p521, 0x0018)) == "P-384"
    assert group_asked_for(running.port, x448, p521) is None


def test_the_post_quantum_hybrid_where_the_library_has_it(profile):
    _, running = profile
    best = HYBRID if ssl.OPENSSL_VERSION_INFO >= (3, 5) else "X25519"

    assert GROUPS.get(group_asked_for(running.port, 0x11EC, 0x001D)) == best


def test_alpn_never_selects_http_2(profile):
    _, running = profile

    assert "ALPN protocol: http/1.1" in s_client(running, "-alpn", "h2,http/1.1")
    assert "No ALPN negotiated" in s_client(running, "-alpn", "h2")


def test_no_compression(profile):
    assert "Compression: NONE" in s_client(profile[1])


def test_no_renegotiation(port):
    """TLS 1.2 knows it; a line with an R is how s_client asks for it."""
    with sidecar(f"--frontend-addr=127.0.0.1:{port}"):
        command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{port}"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, input="R\n", check=False)

    assert "RENEGOTIATING" in asked.stdout + asked.stderr
    assert "no renegotiation" in asked.stderr
    assert asked.returncode == 1


def test_an_openssl_configuration_of_the_users_own_wins(port, tmp_path):
    own = tmp_path / "own.cnf"
    own.write_text("openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nGroups=P-384\n")
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", env={"OPENSSL_CONF": str(own)}) as running:
        assert {each for each in ("X25519", "P-256", "P-384") if s_client(running, "-groups", each)} == {"P-384"}
