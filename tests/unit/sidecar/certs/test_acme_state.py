"""The folder in which an account and certificates outlive the sidecar."""

from __future__ import annotations

import json
import os
import stat

import pytest

from lab.certificates import make
from sslterm.certs.acme_state import Account, Folder, Issued
from sslterm.certs.bundle import Rejected

URL = "https://acme.example/directory"
PAIR = make("site.example")
ISSUED = Issued(PAIR.cert.decode(), PAIR.key.decode(), 1.0, 2.0, 1.5, None)
ACCOUNT = Account("https://acme.example/account/1", "SECRET")


@pytest.fixture
def folder(tmp_path):
    found = Folder(tmp_path / "state", URL, ("site.example", "a.example"))
    found.prepare()
    return found


def test_what_is_kept_is_found_again(folder, tmp_path):
    assert (folder.load(), folder.load_account(), folder.load_failures()) == (None, None, [])

    folder.save(ISSUED)
    folder.save(ACCOUNT)
    folder.save_failures([1.5, 2.5])
    again = Folder(tmp_path / "state", URL, ("a.example", "site.example"))

    assert (again.load(), again.load_account(), again.load_failures()) == (ISSUED, ACCOUNT, [1.5, 2.5])

    folder.save_failures([])

    assert again.load_failures() == []


def test_servers_and_sets_of_names_are_kept_apart(folder, tmp_path):
    folder.save(ISSUED)
    folder.save(ACCOUNT)
    other_names = Folder(tmp_path / "state", URL, ("site.example",))
    other_server = Folder(tmp_path / "state", f"{URL}-staging", ("site.example", "a.example"))

    assert (other_names.load(), other_names.load_account()) == (None, ACCOUNT)
    assert (other_server.load(), other_server.load_account()) == (None, None)


def test_only_this_user_reads_it_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        folder = Folder(tmp_path / "state", URL, ("site.example",))
        folder.prepare()
        folder.save(ISSUED)
        folder.save(ACCOUNT)
    finally:
        os.umask(before)
    inner = folder.certificate.parent

    assert stat.S_IMODE(inner.stat().st_mode) == 0o700
    assert [stat.S_IMODE(each.stat().st_mode) for each in inner.iterdir()] == [0o600] * 2


def test_nothing_secret_is_in_a_repr():
    assert "PRIVATE" not in repr(ISSUED)
    assert "SECRET" not in repr(ACCOUNT)
    assert "PRIVATE" not in repr(ISSUED.bundle("x"))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ('{"chain": 1}', "damaged"),
        (json.dumps({"uri": "x", "key": "y"}), "damaged"),
        (json.dumps(dict.fromkeys(("chain", "key", "not_before", "not_after", "renew_at", "ask_at"))), "damaged"),
        (
            json.dumps({"chain": "", "key": "", "not_before": 1, "not_after": 2, "renew_at": 1, "ask_at": None}),
            "the file is empty",
        ),
    ],
)
def test_a_damaged_certificate_is_refused(folder, content, complaint):
    folder.certificate.write_text(content)
    with pytest.raises(Rejected, match=complaint) as caught:
        folder.load()
    assert str(folder.certificate) in str(caught.value)


@pytest.mark.parametrize("content", ["", "x", "{}", '["a"]', "[null]"])
def test_damaged_failures_are_none(folder, content):
    folder.certificate.with_suffix(".failures").write_text(content)

    assert folder.load_failures() == []


def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch):
    folder.save(ISSUED)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.save(Issued("x", "y", 0, 0, 0, 0))
    monkeypatch.undo()

    assert folder.load() == ISSUED
    assert len(list(folder.certificate.parent.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Rejected, match=f"acme-dir={tmp_path}/file/x: not writable by uid .* \\(Not a directory\\)"):
        Folder(tmp_path / "file" / "x", URL, ("a",)).prepare()
