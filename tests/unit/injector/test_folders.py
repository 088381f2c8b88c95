"""Each fault that can be made of a folder or a socket, and the line that tells it."""

import http.server
import json
import os
import socket
import socketserver
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from byfahrer import folders, settings
from byfahrer.finding import Level
from byfahrer.model import Mount
from lab.memory_engine import MemoryEngine


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def folder():
    """With a short name, for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="byf-", dir="/tmp") as made:
        path = Path(made)
        (path / "state").mkdir(0o700)
        (path / "run").mkdir(0o755)
        yield path


def worst(findings):
    """The one finding, or the one that is no `ok`."""
    found = list(findings)
    (each,) = [each for each in found if each.level is not Level.OK] or found
    return str(each.level), each.text


def test_a_state_folder_as_it_should_be(folder):
    (folder / "state" / "ca.json").touch(0o600)
    level, text = worst(folders.state(folder / "state"))

    assert level == "ok"
    assert text.endswith(f"belongs to user {os.geteuid()}, mode 0700")


def test_a_state_folder_that_is_not_there_yet_or_none(folder):
    assert worst(folders.state(folder / "x")) == ("warning", f"{folder}/x is not there yet: byfahrer run makes it")
    (folder / "file").touch()
    assert worst(folders.state(folder / "file"))[0] == "problem"


def test_a_state_folder_that_others_may_write_in(folder):
    (folder / "state").chmod(0o770)
    level, text = worst(folders.state(folder / "state"))

    assert level == "problem"
    assert "can be written by others: chmod 700 it" in text


def test_a_file_that_others_may_read(folder):
    (folder / "state" / "ca.json").touch()
    (folder / "state" / "ca.json").chmod(0o644)
    level, text = worst(folders.state(folder / "state"))

    assert level == "problem"
    assert "ca.json has mode 0644, so others may know or have changed it: expected 0600" in text


def test_a_state_folder_of_somebody_else(folder, monkeypatch):
    owner = os.geteuid()
    if not owner:  # root's is everybody's
        os.chown(folder / "state", 12345, 12345)
        owner = 12345
    monkeypatch.setattr(folders.os, "geteuid", lambda: 4711)
    level, text = worst(folders.state(folder / "state"))

    assert level == "problem"
    assert f"belongs to user {owner}, and we are 4711: chown it" in text


def test_a_state_folder_that_we_may_not_read(folder, monkeypatch):
    monkeypatch.setattr(folders.os, "access", lambda *_: False)
    level, text = worst(folders.state(folder / "state"))

    assert level == "warning"
    assert "run doctor as whoever runs byfahrer" in text


@pytest.mark.parametrize(
    ("free", "files", "level"), [(1, 10, "problem"), (50, 10, "warning"), (500, 0, "problem"), (500, 10, "ok")]
)
def test_a_disk_that_is_full_or_nearly(folder, monkeypatch, free, files, level):
    said = os.statvfs_result((4096, 1024, 10**6, free * 1024, free * 1024, 10**6, files, files, 0, 255))
    monkeypatch.setattr(folders.os, "statvfs", lambda _: said)

    assert worst(folders.state(folder / "state"))[0] == level


def local(path="unix:///var/run/docker.sock"):
    engine = MemoryEngine()
    engine.where = path
    return engine


def authority(folder):
    return settings.authority(run_dir=str(folder / "run"), state_dir=str(folder / "state"))


@pytest.mark.anyio
async def test_the_run_folder_is_served_and_by_whom(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "run" / "authority.sock"))
        listener.listen()
        mount, found = await folders.run(local(), authority(folder), "", "64443:64443")

    assert mount == Mount(kind="bind", source=f"{folder}/run", destination="/run/byfahrer")
    assert worst(found)[0] == "ok"
    assert f"is served by process {os.getpid()} (" in found[-1].text


@pytest.mark.anyio
async def test_a_socket_that_nobody_serves(folder):
    _, found = await folders.run(local(), authority(folder), "", "64443:64443")

    assert worst(found)[0] == "warning"
    assert "does byfahrer run, with this --run-dir?" in worst(found)[1]


@pytest.mark.anyio
async def test_a_run_folder_that_sidecars_do_not_get_into(folder):
    (folder / "run").chmod(0o700)
    _, found = await folders.run(local(), authority(folder), "", "64443:64443")

    assert [each.text.endswith("user 64443:64443, do not get in: chmod 755 it") for each in found] == [True, False]
    _, found = await folders.run(local(), authority(folder), "", f"{os.geteuid()}:0")
    assert len(found) == 1


@pytest.mark.anyio
async def test_an_engine_that_does_not_have_our_folders(folder):
    mount, found = await folders.run(local("tcp://elsewhere:2376"), authority(folder), "", "64443:64443")

    assert mount is None
    assert worst(found)[0] == "problem"
    assert "sidecars sign their certificates themselves: the engine at tcp://elsewhere:2376 may be" in worst(found)[1]


@pytest.mark.anyio
async def test_in_a_container_folders_have_to_be_volumes_that_last(folder):
    engine = MemoryEngine()
    own = engine.run("byfahrer", mounts=(
        Mount(kind="volume", source="byfahrer-run", destination=f"{folder}/run", writable=True),
        Mount(kind="volume", source="a" * 64, destination=f"{folder}/state", writable=True),
    ))  # fmt: skip
    found = await folders.lasting(engine, authority(folder), own)

    level, text = worst(found)
    assert level == "warning"
    assert text.startswith(f"{folder}/state ends with this container, and the authority's root is lost")
    assert text.endswith(f"give it a volume (-v byfahrer:{folder}/state)")
    assert await folders.lasting(engine, authority(folder), "") == []


@contextmanager
def admin(folder, answer, status=200):
    """Somebody who answers at the daemon's own socket."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def address_string(self):
            return "unix"

        def log_message(self, *_):
            pass

    with socketserver.UnixStreamServer(str(folder / "state" / "admin.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def said_by(folder, told):
    path = folder / "state" / "admin.sock"
    with admin(folder, json.dumps(told).encode()):
        found = folders.daemon(path)
    path.unlink()
    return [(str(each.level), each.text) for each in found]


def test_a_daemon_that_runs_and_one_that_is_not_well(folder):
    well = {"version": "1.0", "ready": True, "targets": [], "last_resync": "2026-11-25T00:00:00Z"}

    assert said_by(folder, well) == [("ok", "byfahrer 1.0 runs, and looked at everything at 2026-11-25T00:00:00Z")]
    assert said_by(folder, well | {"ready": False, "fault": "the engine is not connected"}) == [
        ("problem", "byfahrer runs and is not ready: the engine is not connected")
    ]


def test_what_only_the_daemon_knows_of_a_target(folder):
    report = {"ready": True, "fault": "", "bypass": [], "certificate": {"failing": ""}}
    targets = [
        {"name": "www", "error": "", "report": report},
        {"name": "late", "error": "it did not start", "report": None},
        {
            "name": "strict",
            "error": "",
            "report": report
            | {"ready": False, "fault": "the backend also listens on 0.0.0.0:80", "bypass": ["0.0.0.0:80"]},
        },
        {"name": "open", "error": "", "report": report | {"bypass": ["0.0.0.0:80", "[::]:80"]}},
        {"name": "down", "error": "", "report": report | {"ready": False, "fault": "nobody listens on 127.0.0.1:8080"}},
        {"name": "old", "error": "", "report": report | {"certificate": {"failing": "no such name"}}},
        "nonsense",
    ]
    found = said_by(folder, {"version": "1.0", "ready": True, "targets": targets})[1:]

    assert [level for level, _ in found] == ["warning"] * 4
    assert [text for _, text in found] == [
        "the sidecar of 'strict' is not ready: the backend also listens on 0.0.0.0:80",
        "'open' also listens on 0.0.0.0:80, [::]:80: whoever reaches that goes round TLS; have it listen on 127.0.0.1",
        "the sidecar of 'down' is not ready: nobody listens on 127.0.0.1:8080",
        "the certificate of 'old' is not renewed: no such name",
    ]


@pytest.mark.parametrize("answer", [b"{", b"[]", b"{}", b"\xff"])
def test_a_daemon_that_answers_nonsense(folder, answer):
    with admin(folder, answer):
        level, text = worst(folders.daemon(folder / "state" / "admin.sock"))

    assert level == "problem"
    assert "does not say what a byfahrer would" in text


def test_no_daemon_at_all_and_one_that_was_killed(folder):
    path = folder / "state" / "admin.sock"
    assert worst(folders.daemon(path))[0] == "warning"
    with admin(folder, b""):
        pass
    assert worst(folders.daemon(path))[0] == "warning"
