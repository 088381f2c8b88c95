"""What an ACME server gave is kept: a restart asks for nothing, and an account is made once."""

from __future__ import annotations

import stat

import pytest

from lab.pebble import pebble
from lab.sidecar import free_port, get, refused, served_certificate, sidecar

ISSUED = r"Certificate reloaded: .*\.json for "
KEPT = r"Certificate: .*\.json for "


@pytest.fixture
def acme(tmp_path, port):
    with pebble(tmp_path, tls_port=port, http_port=free_port()) as running:
        yield running


def test_a_restart_asks_the_server_for_nothing(acme, port, tmp_path):
    flags = [f"--frontend-addr=127.0.0.1:{port}", *acme.flags(tmp_path / "state", "localhost", "site.example")]
    with sidecar(*flags) as running:
        running.wait_for(ISSUED)
        leaf = served_certificate(port)
    before = len(acme.log)
    for names in ("localhost,site.example", "site.example,localhost"):  # in any order they are the same
        with sidecar(*flags, f"--acme={names}") as running:
            running.wait_for(KEPT)

            assert served_certificate(port) == leaf
    assert len(acme.log) == before


def test_an_account_does_for_all_orders(acme, port, tmp_path):
    for name in ("localhost", "site.example"):
        flags = acme.flags(tmp_path / "state", name)
        with sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags) as running:
            running.wait_for(ISSUED)
    assert (acme.accounts, acme.orders) == (1, 2)


def test_only_its_user_can_read_it(acme, port, tmp_path):
    state = tmp_path / "state"
    with sidecar(f"--frontend-addr=127.0.0.1:{port}", *acme.flags(state, "localhost")) as running:
        running.wait_for(ISSUED)
    (folder,) = state.iterdir()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["", "{", '{"chain": "x"}', '{"uri": "x", "key": "y"}'])
def test_damaged_files_are_told_and_replaced(acme, port, tmp_path, damage):
    flags = f"--frontend-addr=127.0.0.1:{port}", *acme.flags(tmp_path / "state", "localhost")
    with sidecar(*flags) as running:
        running.wait_for(ISSUED)
    for path in (tmp_path / "state").rglob("localhost-*.json"):
        path.write_text(damage)
    with sidecar(*flags) as running:
        running.wait_for(r"WARN  acme: .*localhost-\w+\.json: damaged; going on without it")
        running.wait_for(ISSUED)
    with sidecar(*flags) as running:
        assert get(port, acme.trusting()) or running.said(KEPT)


def test_a_server_that_forgot_the_account_gets_it_anew(tmp_path, port):
    state = tmp_path / "state"
    with (
        pebble(tmp_path, tls_port=port, http_port=free_port()) as acme,
        sidecar(f"--frontend-addr=127.0.0.1:{port}", *acme.flags(state, "localhost")) as running,
    ):
        running.wait_for(ISSUED)
        for path in state.rglob("localhost-*.json"):
            path.unlink()
        at = acme.port
    with (
        pebble(tmp_path, tls_port=port, http_port=free_port(), listen=at) as forgetful,
        sidecar(f"--frontend-addr=127.0.0.1:{port}", *forgetful.flags(state, "localhost")) as running,
    ):
        running.wait_for(ISSUED)

        assert forgetful.accounts == 1
        assert not running.said("ERROR")


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path, port):
    (tmp_path / "file").write_text("")
    result = refused("--acme=site.example", f"--acme-dir={tmp_path / 'file'}", f"--frontend-addr=127.0.0.1:{port}")

    assert result.returncode == 2
    assert f"acme-dir={tmp_path / 'file'}: not writable by uid " in result.stderr
    assert "a volume there keeps" in result.stderr
    assert "Traceback" not in result.stderr
