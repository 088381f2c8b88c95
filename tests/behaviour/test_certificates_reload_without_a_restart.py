"""A replaced certificate is served without a restart; a broken one is not, and says why, once."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import ssl

import pytest

from lab.certificates import Pem, make
from lab.namespace import without
from lab.sidecar import any_certificate, get, hello_backend, served_certificate, sidecar

KEPT = "Certificate not reloaded, the one before stays in force: "
RELOADED = "Certificate reloaded: "
FIRST, SECOND = make("localhost", "first"), make("localhost", "second")


def der(pem: Pem) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.cert.decode())


@pytest.fixture
def serving(tmp_path, port):
    """A sidecar that serves FIRST from two files in `tmp_path`, in front of a backend that says hello."""
    cert, key = FIRST.write(tmp_path)
    with (
        hello_backend() as backend,
        sidecar(
            f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{port}", f"--backend-addr=127.0.0.1:{backend}"
        ) as running,
    ):
        assert served_certificate(port) == der(FIRST)
        yield running


def test_sighup_reads_the_files_again(serving, tmp_path):
    serving.signal(signal.SIGHUP)
    serving.wait_for("Certificate unchanged: ")
    SECOND.write(tmp_path)
    serving.signal(signal.SIGHUP)
    serving.wait_for(RELOADED)

    assert served_certificate(serving.port) == der(SECOND)
    assert get(serving.port) == "hello\n"


def test_a_changed_file_is_taken_up_by_itself(serving, tmp_path):
    SECOND.write(tmp_path)
    line = serving.wait_for(RELOADED)[0]

    assert "localhost, second, valid until" in line
    assert served_certificate(serving.port) == der(SECOND)
    assert not serving.said("ERROR")


def test_a_symlink_switched_further_up_is_seen(tmp_path, port):
    """How Kubernetes and Docker configs replace both files in one step."""
    FIRST.write(tmp_path / "..2026_11_21")
    SECOND.write(tmp_path / "..2026_11_22")
    (tmp_path / "..data").symlink_to("..2026_11_21")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    with sidecar(
        f"--cert={tmp_path / 'cert.pem'}", f"--key={tmp_path / 'key.pem'}", f"--frontend-addr=127.0.0.1:{port}"
    ) as running:
        (tmp_path / "..next").symlink_to("..2026_11_22")
        (tmp_path / "..next").rename(tmp_path / "..data")
        shutil.rmtree(tmp_path / "..2026_11_21")
        running.wait_for(RELOADED)

        assert served_certificate(port) == der(SECOND)
        assert not running.said("ERROR")


BROKEN = {
    "empty certificate": (b"", FIRST.key, "cert.pem: the file is empty"),
    "empty key": (FIRST.cert, b"", "key.pem: the file is empty"),
    "truncated": (SECOND.cert[:300], SECOND.key, "cert.pem: cut short"),
    "not PEM": (b"hello", SECOND.key, "cert.pem: not PEM"),
    "mismatch": (SECOND.cert, FIRST.key, "key.pem: not the key of the first certificate in"),
    "encrypted": (SECOND.cert, make(passphrase=b"secret").key, "key.pem: the key is encrypted"),
    "expired": (*vars(make("localhost", begins=-9, ends=-1)).values(), "cert.pem: expired on "),
    "not yet valid": (*vars(make("localhost", begins=1, ends=9)).values(), "cert.pem: not valid before "),
}


@pytest.mark.parametrize(("cert", "key", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_pair_keeps_the_one_before_and_says_why_then_a_good_one_is_served(
    serving, tmp_path, cert, key, reason
):
    Pem(cert, key).write(tmp_path)
    serving.signal(signal.SIGHUP)
    serving.wait_for(KEPT)
    served = served_certificate(serving.port)
    SECOND.write(tmp_path)
    serving.signal(signal.SIGHUP)
    serving.wait_for(RELOADED)

    assert served == der(FIRST)
    assert served_certificate(serving.port) == der(SECOND)
    assert [line for line in serving.said("ERROR") if KEPT + str(tmp_path / reason.split(":")[0]) not in line] == []
    assert len(serving.said("ERROR")) == 1
    assert reason in serving.said("ERROR")[0]


def test_a_broken_pair_found_by_the_watch_is_told_once(serving, tmp_path):
    (tmp_path / "cert.pem").write_bytes(SECOND.cert)
    serving.wait_for(KEPT)
    (tmp_path / "key.pem").write_bytes(SECOND.key)
    serving.wait_for(RELOADED)

    assert served_certificate(serving.port) == der(SECOND)
    assert len(serving.said("ERROR")) == 1


def test_a_file_of_another_owner_keeps_the_one_before(tmp_path, port):
    """Row 22, wrong owner: the sidecar runs without the privilege to read what is not its own."""
    cert, key = FIRST.write(tmp_path)
    plain = without("dac_override", "dac_read_search")
    with sidecar(f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{port}", before=plain) as running:
        key.chmod(0)
        running.signal(signal.SIGHUP)
        line = running.wait_for(KEPT)[0]

        assert f"{key}: not readable by uid {os.geteuid()}" in line
        assert served_certificate(port) == der(FIRST)


def test_ten_bad_and_good_pairs_in_turn_under_load_lose_nothing(serving, tmp_path):
    for number in range(5):
        Pem(SECOND.cert[:100], SECOND.key).write(tmp_path)
        serving.signal(signal.SIGHUP)
        serving.wait_for(KEPT, number + 1)

        assert get(serving.port) == "hello\n"

        (FIRST if number % 2 else SECOND).write(tmp_path)
        serving.signal(signal.SIGHUP)
        serving.wait_for("Certificate (reloaded|unchanged): ", number + 1)

        assert get(serving.port) == "hello\n"


def test_an_expired_pair_at_start_is_served_with_a_warning(tmp_path, port):
    old = make("localhost", begins=-9, ends=-1)
    cert, key = old.write(tmp_path)
    with sidecar(f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{port}") as running:
        assert served_certificate(port) == der(old)
        assert len(running.said("WARN .*expired on .*, clients will not accept it")) == 1


def test_open_connections_outlive_a_reload(serving, tmp_path):
    connection = http.client.HTTPSConnection("127.0.0.1", serving.port, context=any_certificate(), timeout=30)
    connection.request("GET", "/")
    connection.getresponse().read()
    own_end = connection.sock.getsockname()
    SECOND.write(tmp_path)
    serving.signal(signal.SIGHUP)
    serving.wait_for(RELOADED)
    connection.request("GET", "/")

    assert connection.getresponse().read() == b"hello\n"
    assert connection.sock.getsockname() == own_end
    connection.close()
