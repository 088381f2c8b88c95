"""`byfahrer trust` makes an ordinary program in an ordinary container believe a sidecar, and that lasts."""

from __future__ import annotations

import pytest

from lab.injector import byfahrer
from lab.waiting import wait_until

SLEEP = {"image": "debian:trixie-slim", "asks": False, "command": ["sleep", "600"]}
INSTALL = (
    "apt-get update -qq && apt-get install -qq --no-install-recommends ca-certificates curl openssl >/dev/null 2>&1"
)


@pytest.fixture
def shop(lab, injector):
    """A target, and a container on the same network with Debian's store, that does not know us."""
    injector().is_ready()
    net = lab.network()
    www = lab.run(host={"network_mode": net})
    lab.becomes_served(www)
    shop = lab.run("shop", host={"network_mode": net}, **SLEEP)
    lab.execute(shop, "sh", "-c", INSTALL)
    return shop


@pytest.mark.timeout(300)
def test_curl_and_openssl_believe_it_without_being_told_and_go_on_to(lab, shop):
    url, name = f"https://{lab.mark}-www:8081/pi/20", f"{lab.mark}-shop"
    curl = ("curl", "-sS", url)
    # By the folder of hashes alone, as Python and Ruby on Debian do.
    openssl = f"openssl s_client -verify_return_error -no-CAfile -connect {lab.mark}-www:8081 </dev/null"
    assert lab.attempt(shop, *curl)[0] == 60, "nobody believes it before"
    done = byfahrer("trust", name)
    assert (done.code, done.err) == (0, "")
    written = [line.removesuffix(" written").removeprefix(f"{name}:") for line in done.out.splitlines()]

    assert "/etc/ssl/certs/ca-certificates.crt" in written
    assert "/usr/local/share/ca-certificates/byfahrer.crt" in written
    assert "Welcome" in lab.execute(shop, *curl)
    assert "Verify return code: 0 (ok)" in lab.execute(shop, "sh", "-c", openssl)
    assert byfahrer("trust", name).out == f"{name} has it already\n"
    lab.execute(shop, "update-ca-certificates", "--fresh")
    assert "Welcome" in lab.execute(shop, *curl)
    assert "Verify return code: 0 (ok)" in lab.execute(shop, "sh", "-c", openssl)


def test_a_store_behind_links_is_written_where_it_is(lab, injector):
    injector().is_ready()
    fedora = lab.run("fedora", **SLEEP)
    real = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
    lab.execute(
        fedora, "sh", "-ec",
        f"mkdir -p /etc/pki/ca-trust/extracted/pem /etc/pki/tls/certs; echo '# none' >{real}; chmod 604 {real}; "
        f"ln -s ../../ca-trust/extracted/pem/tls-ca-bundle.pem /etc/pki/tls/certs/hop.pem; "
        f"ln -s hop.pem /etc/pki/tls/certs/ca-bundle.crt",
    )  # fmt: skip
    done = byfahrer("trust", f"{lab.mark}-fedora")

    assert done.out.splitlines() == [
        f"{lab.mark}-fedora:{real} written",
        f"{lab.mark}-fedora:/etc/pki/ca-trust/source/anchors/byfahrer.crt written",
    ]
    assert lab.read(fedora, real).startswith(b"# none\n-----BEGIN CERTIFICATE-----")
    assert lab.execute(fedora, "stat", "-c", "%a", real) == "604\n"
    assert lab.execute(fedora, "readlink", "/etc/pki/tls/certs/ca-bundle.crt") == "hop.pem\n"


@pytest.mark.parametrize(
    ("name", "script", "says"),
    [
        ("empty", "true", "has no system store"),
        ("folder", "mkdir -p /etc/ssl/certs/ca-certificates.crt", "ca-certificates.crt is no plain file"),
        ("huge", "mkdir -p /etc/ssl/certs; truncate -s 9G /etc/ssl/certs/ca-certificates.crt", "has more than"),
        ("loop", "mkdir -p /etc/ssl/certs; cd /etc/ssl/certs; ln -s b a; ln -s a b; ln -s b ca-certificates.crt", ""),
        ("outside", "mkdir -p /etc/ssl/certs; ln -s /proc/1/environ /etc/ssl/certs/ca-certificates.crt", ""),
    ],
)  # fmt: skip
def test_what_is_no_store_is_one_line_and_nothing_is_written(lab, injector, name, script, says):
    injector().is_ready()
    odd = lab.run(name, **SLEEP)
    lab.execute(odd, "sh", "-ec", script)
    done = byfahrer("trust", f"{lab.mark}-{name}")

    assert done.code == 1
    assert says in done.err
    assert done.err.count("\n") == 1
    assert "byfahrer.crt" not in lab.execute(odd, "find", "/etc", "/usr/local", "-name", "byfahrer*")


def test_a_sealed_container_and_nobody_at_all(lab, injector):
    injector().is_ready()
    sealed = lab.run("sealed", host={"read_only": True}, **SLEEP)
    wait_until(lambda: lab.status(sealed) == "running")
    done = byfahrer("trust", f"{lab.mark}-sealed")

    assert done.code == 1
    assert "has a read-only root: mount the file that `byfahrer ca root` prints" in done.err
    assert "there is no container" in byfahrer("trust", "nobody-of-this-name").err
