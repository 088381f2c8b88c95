"""A socket is bound for whom it is meant, replaced only where nobody serves it, and goes at the end."""

import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from byfahrer.serving import listen
from byfahrer.serving.errors import SocketError
from byfahrer.serving.listen import listening

US = f"{os.geteuid()}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "authority.sock"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_is_for_the_sidecars_user_where_we_can_say_so(path, monkeypatch):
    given = []
    monkeypatch.setattr(listen.os, "chown", lambda *args: given.append(args[1:]))
    found = {}
    for euid, user in (
        (0, "64443:64444"),
        (0, "64443"),
        (0, "0:0"),
        (0, "nobody"),
        (1000, "64443:64443"),
        (1000, "1000"),
    ):
        monkeypatch.setattr(listen.os, "geteuid", lambda euid=euid: euid)
        with listening(path, user):
            found[euid, user] = mode(path)

    assert found == {
        (0, "64443:64444"): 0o660, (0, "64443"): 0o660, (0, "0:0"): 0o600, (0, "nobody"): 0o666,
        (1000, "64443:64443"): 0o666, (1000, "1000"): 0o600,
    }  # fmt: skip
    assert given == [(64443, 64444), (64443, 64443)]


def test_the_socket_goes_at_the_end_and_one_that_was_left_is_replaced(path):
    with listening(path, US):
        assert stat.S_ISSOCK(path.stat().st_mode)
    assert list(path.parent.iterdir()) == []
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with listening(path, US), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_somebody_elses_socket_or_file_is_left_alone(path):
    with listening(path, US):
        assert refused(path) == f"{path}: another byfahrer serves there"
        assert path.exists()
    path.write_text("precious")

    assert refused(path).startswith(f"{path}: there is something that is no socket; remove it, ")
    assert path.read_text() == "precious"


def test_of_several_that_start_together_one_serves_and_the_others_know(path):
    """Each would find room, and the last one take the place of those before, who would never learn of it."""
    ready, over = Barrier(8), Barrier(8)

    def start(_):
        ready.wait(10)
        try:
            with listening(path, US):
                over.wait(10)
                return path.exists()
        except SocketError as error:
            over.wait(10)
            return str(error)

    for _ in range(10):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(start, range(8)))
        assert found.count(True) == 1
        assert found.count(f"{path}: another byfahrer serves there") == 7


def test_a_socket_that_somebody_put_in_our_place_is_not_removed(path):
    with listening(path, US):
        path.unlink()
        path.write_text("theirs")

    assert path.read_text() == "theirs"


def test_a_path_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / ("x" * 100) / "s", tmp_path / "file" / "s"):
        assert refused(path).startswith(f"{path}: ")
        assert "\n" not in refused(path)


def refused(path):
    """Why there can be no socket."""
    with pytest.raises(SocketError) as error, listening(path, US):
        raise AssertionError
    return str(error.value)
