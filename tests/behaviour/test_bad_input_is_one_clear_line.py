"""Whatever is wrong at start: one line that names it; exit code 2 is configuration, 1 the rest."""

from __future__ import annotations

import json
import os
import re
import socket

import pytest

from lab.certificates import Pem, make
from lab.namespace import namespace, without
from lab.sidecar import free_port, refused, sidecar

GOOD, OTHER = make("localhost"), make("localhost")


def complaint(result) -> str:
    """The one line that is not about the normal course of things."""
    lines = [line for line in result.stderr.splitlines() if not re.match(r"\S+Z INFO ", line)]

    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "env", "line"),
    [
        (["--frontend-addr", "8081"], {}, "--frontend-addr='8081': expected host:port, :port, [v6]:port or auto"),
        (["--backend-addr", "127.0.0.1:99999"], {}, "--backend-addr='127.0.0.1:99999': expected host:port"),
        ([], {"GOSSLTERM_FRONTEND_ADDR": "x"}, "GOSSLTERM_FRONTEND_ADDR='x': expected host:port"),
        ([], {"SSLTERM_MODE": "udp"}, "SSLTERM_MODE='udp': expected http or tcp"),
        (["--idle-timeout", "0"], {}, "--idle-timeout='0': expected a duration"),
        (["--max-connections", "many"], {}, "--max-connections='many': expected a whole number above zero"),
        ([], {"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud': expected trace, debug, info, warn or error"),
        (["--cert", "/x"], {}, "cert='/x': expected to come together with key"),
        (["--frontend-addr", ":8080"], {}, "backend-addr='127.0.0.1:8080': expected another port than frontend-addr"),
        (["--nonsense", "1"], {}, "No such option"),
        (["serve"], {}, "No such command 'serve'"),
        (["--frontend-addr", "192.0.2.99:8443"], {}, "frontend-addr=192.0.2.99:8443: this network namespace has no"),
        (["--frontend-addr", "no.such.invalid:8443"], {}, "frontend-addr=no.such.invalid:8443: no such host"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_configuration_is_code_2(flags, env, line):
    result = refused(*flags, env=env)

    assert line in complaint(result)
    assert result.returncode == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("cert", "key", "line"),
    [
        (b"", GOOD.key, "cert.pem: the file is empty"),
        (GOOD.cert, b"", "key.pem: the file is empty"),
        (b"hello", GOOD.key, "cert.pem: not PEM"),
        (GOOD.cert[:200], GOOD.key, "cert.pem: cut short"),
        (GOOD.cert, OTHER.key, "key.pem: not the key of the first certificate in "),
        (GOOD.key, GOOD.cert, "cert.pem: holds no certificate, only private key"),
        (GOOD.cert, make(passphrase=b"secret").key, "key.pem: the key is encrypted with a passphrase"),
    ],
    ids=["empty cert", "empty key", "not PEM", "truncated", "mismatch", "swapped", "encrypted"],
)
def test_a_pair_that_cannot_be_served_is_code_2_and_shows_no_key(tmp_path, cert, key, line):
    paths = Pem(cert, key).write(tmp_path)
    result = refused(f"--cert={paths[0]}", f"--key={paths[1]}", f"--frontend-addr=127.0.0.1:{free_port()}")

    assert f"ERROR cert: {tmp_path}/{line}" in complaint(result)
    assert result.returncode == 2
    for secret in (key, GOOD.key):
        assert not any(part.decode() in result.stderr for part in secret.splitlines()[1:-1] if len(part) > 16)


def test_files_that_are_not_there_or_not_ours_to_read(tmp_path):
    cert, key = GOOD.write(tmp_path)
    address = f"--frontend-addr=127.0.0.1:{free_port()}"
    missing = refused(f"--cert={tmp_path}/none.pem", f"--key={key}", address)
    directory = refused(f"--cert={tmp_path}", f"--key={key}", address)
    key.chmod(0)
    plain = without("dac_override", "dac_read_search")
    secret = refused(f"--cert={cert}", f"--key={key}", address, before=plain)

    assert f"cert: {tmp_path}/none.pem: no such file" in complaint(missing)
    assert f"cert: {tmp_path}: a directory" in complaint(directory)
    assert f"cert: {key}: not readable by uid {os.geteuid()}" in complaint(secret)
    assert {missing.returncode, directory.returncode, secret.returncode} == {2}


def test_a_taken_port_is_code_1():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        result = refused(f"--frontend-addr={address}")

    assert f"ERROR frontend-addr={address}: already in use in this network namespace" in complaint(result)
    assert result.returncode == 1


def test_a_port_that_is_not_permitted_is_code_2():
    with namespace() as private:  # where the limit is the kernel's default, as containers do not have it
        before = [*private.enter, *without("net_bind_service")]
        result = refused("--frontend-addr=127.0.0.1:443", before=before)

    assert "ERROR frontend-addr=127.0.0.1:443: not permitted: this user may bind ports from " in complaint(result)
    assert result.returncode == 2


def test_a_backend_that_does_not_resolve_is_one_line():
    result = refused("--backend-addr=no.such.invalid:80", f"--frontend-addr=127.0.0.1:{free_port()}")

    assert "ERROR backend-addr=no.such.invalid:80: no.such.invalid does not resolve (" in complaint(result)
    assert result.returncode in (1, 2)  # 1 where no name server answers: that may pass


def test_json_complaints_are_one_line_of_json(tmp_path):
    result = refused(f"--cert={tmp_path}/c", f"--key={tmp_path}/k", "--log-format=json", "--log-level=error")

    assert json.loads(result.stderr)["message"] == f"cert: {tmp_path}/c: no such file"


def test_fewer_file_descriptors_than_connections_is_a_warning(port):
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", before=("prlimit", "--nofile=200:200")) as running:
        assert running.said("WARN  max-connections=1024: lowered to 68, as many as 200 file descriptors allow")


def test_a_backend_beyond_this_namespace_is_a_warning(port):
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", "--backend-addr=192.0.2.99:80") as running:
        assert running.said("WARN  backend-addr=192.0.2.99:80: plaintext leaves this network namespace")
