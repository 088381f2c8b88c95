"""What a sidecar costs its host: no certificate library stays in memory, and the probe loads next to nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.certificates import make
from lab.sidecar import environment, served_certificate, sidecar, wait_until
from lab.stand_in import authority


def children(pid: int) -> list[str]:
    return [
        number for task in Path(f"/proc/{pid}/task").iterdir() for number in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("source", ["files", "self-signed", "authority"])
def test_the_long_lived_process_has_no_certificate_library_and_no_child(port, tmp_path, source):
    cert, key = make("localhost").write(tmp_path)
    with authority(tmp_path) as standing, ExitStack() as stack:
        flags = {
            "files": [f"--cert={cert}", f"--key={key}"],
            "self-signed": [],
            "authority": [*standing.flags(), f"--admin-addr=unix:{tmp_path / 'admin.sock'}"],
        }
        running = stack.enter_context(sidecar(f"--frontend-addr=127.0.0.1:{port}", *flags[source]))
        served_certificate(port)
        mapped = Path(f"/proc/{running.pid}/maps").read_text()

        assert "_ssl" in mapped
        assert "cryptography" not in mapped
        assert "_cffi" not in mapped
        assert "_ctypes" not in mapped
        assert wait_until(lambda: not children(running.pid), "no child left")


def test_what_is_not_wanted_is_not_loaded():
    code = "import sys, sslterm.sidecar; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert not re.search(
        r"\bsslterm\.(admin|status|workers|certs\.(authority|link|exchange|reports|roots))\b", result.stdout
    )
    assert not {"http.client", "email", "random", "requests", "urllib.request", "ctypes"} & set(result.stdout.split())


def test_the_way_to_an_authority_loads_nothing_big():
    code = (
        "import sys, sslterm.sidecar; before = set(sys.modules)\n"
        "import sslterm.admin, sslterm.status, sslterm.certs.authority, sslterm.certs.reports, sslterm.certs.roots\n"
        "print(' '.join(each for each in set(sys.modules) - before if not each.startswith('sslterm.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert result.stdout.split() == []


def test_nothing_leaks_with_reloads_and_handshakes(port, tmp_path):
    pairs = make("a"), make("b")
    cert, key = pairs[0].write(tmp_path)

    def open_files(pid):
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    def threads(pid):
        return len(list(Path(f"/proc/{pid}/task").iterdir()))

    with sidecar(f"--cert={cert}", f"--key={key}", f"--frontend-addr=127.0.0.1:{port}") as running:
        pid = running.pid
        served_certificate(port)
        base = wait_until(lambda: open_files(pid), "open files"), threads(pid)
        for number in range(1, 7):
            pairs[number % 2].write(tmp_path)
            running.signal(signal.SIGHUP)
            running.wait_for("Certificate reloaded", number)
            served_certificate(port)
        wait_until(lambda: (open_files(pid), threads(pid)) <= base, f"back to {base} files and threads")


def test_the_probe_loads_no_command_line_no_logger_no_event_loop():
    code = (
        "import sys; sys.argv = ['sslterm', 'check', '--frontend-addr=127.0.0.1:1', '--listen-when=always']\n"
        "from sslterm.__main__ import main\n"
        "main()\n"
        "print(' '.join(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True, timeout=30
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}

    assert "Connection refused" in result.stderr
    assert not loaded & {"click", "loguru", "anyio", "asyncio", "cryptography", "subprocess", "json"}
    assert re.search(r"\bsslterm\.check\b", result.stdout)


def test_a_worker_loads_the_relay_and_no_more():
    code = "import sys, sslterm.worker; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}

    assert not loaded & {"click", "loguru", "anyio", "asyncio", "cryptography", "subprocess", "ctypes"}
    assert not re.search(r"\bsslterm\.(cli|serve|sidecar|endpoints|netns|workers)\b", result.stdout)


def test_the_openssl_configuration_is_set_before_ssl_is_loaded():
    code = "import sys, sslterm.__main__; print('ssl' in sys.modules or '_ssl' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert result.stdout == "False\n"
