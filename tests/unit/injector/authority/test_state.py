"""What is kept is for one user only, whole or not there, and never replaced where it is damaged."""

import os

import pytest

from byfahrer.authority import state
from byfahrer.authority.errors import StateError
from byfahrer.authority.state import StateFolder, default_path


@pytest.fixture
def folder(tmp_path):
    folder = StateFolder(tmp_path / "a" / "state")
    folder.prepare()
    return folder


def test_a_folder_is_made_for_its_owner_only(folder):
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.prepare()


def test_an_empty_volume_is_closed_to_others(tmp_path):
    tmp_path.chmod(0o755)
    StateFolder(tmp_path).prepare()

    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_in_is_refused(tmp_path):
    (tmp_path / "something").touch()
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match=f"{tmp_path}: others may write in it; chmod 700 it"):
        StateFolder(tmp_path).prepare()

    assert tmp_path.stat().st_mode & 0o777 == 0o777


def test_a_file_in_the_folders_place_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError, match=f"{path}: "):
            StateFolder(path).prepare()


def test_what_is_written_is_read_again_with_mode_0600(folder):
    assert folder.read("x") is None
    assert folder.version("x") is None
    folder.write("x", b"1")
    before = folder.version("x")
    folder.write("x", b"2")

    assert folder.read("x") == b"2"
    assert folder.version("x") != before
    assert (folder.path / "x").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.path.iterdir()] == ["x"]


def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch):
    folder.write("x", b"old")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.os, "fsync", full)
    with pytest.raises(StateError, match="x: No space left on device"):
        folder.write("x", b"new")

    assert folder.read("x") == b"old"
    assert [path.name for path in folder.path.iterdir()] == ["x"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o620])
def test_a_file_that_others_could_read_is_refused_with_what_would_be_right(folder, mode):
    folder.write("x", b"1")
    (folder.path / "x").chmod(mode)
    with pytest.raises(StateError, match=rf"x: its mode is {mode:04o}, .* expected 0600"):
        folder.read("x")


def test_links_and_other_things_are_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").touch(0o600)
    (folder.path / "link").symlink_to(tmp_path / "elsewhere")
    (folder.path / "folder").mkdir()
    os.mkfifo(folder.path / "pipe", 0o600)
    for name in ("link", "folder", "pipe"):
        with pytest.raises(StateError, match=f"{folder.path / name}: "):
            folder.read(name)


def test_a_file_of_somebody_else_is_refused(folder, monkeypatch):
    folder.write("x", b"1")
    real = os.fstat

    def stat(file):
        found = list(real(file))
        found[4] = 12345
        return os.stat_result(found)

    monkeypatch.setattr(state.os, "fstat", stat)
    with pytest.raises(StateError, match="x: it belongs to user 12345; expected user"):
        folder.read("x")


def test_a_file_that_is_far_too_large_is_refused(folder, monkeypatch):
    monkeypatch.setattr(state, "MOST", 3)
    folder.write("x", b"1234")
    with pytest.raises(StateError, match="x: expected at most 3 bytes"):
        folder.read("x")


def test_the_default_is_var_lib_or_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setattr(state, "DEFAULT", tmp_path / "lib" / "byfahrer")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    user = tmp_path / "home/.local/state/byfahrer"
    assert default_path({}) == user
    assert default_path({"XDG_STATE_HOME": "/x"}).as_posix() == "/x/byfahrer"
    assert default_path({"XDG_STATE_HOME": "x"}) == user
    (tmp_path / "lib").mkdir()
    assert default_path({"XDG_STATE_HOME": "/x"}) == tmp_path / "lib" / "byfahrer"
