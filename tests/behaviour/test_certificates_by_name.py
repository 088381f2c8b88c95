"""Of a folder of pairs the client's SNI chooses; each reloads by itself, and no connection notices."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from socket import create_connection

import pytest

from lab.private_ca import PrivateCa
from lab.sidecar import PATIENCE, any_certificate, free_port, hello_backend, refused, sidecar, wait_until

CA = PrivateCa.made()
WEB, SHOP, WILD = CA.issue("web.example"), CA.issue("shop.example"), CA.issue("*.shop.example")
RELOADED = "Certificate reloaded: "


def put(folder, name, pem):
    (folder / f"{name}.crt").write_bytes(pem.cert)
    (folder / f"{name}.key").write_bytes(pem.key)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "certs"
    made.mkdir()
    put(made, "default", WEB)
    put(made, "shop", SHOP)
    (made / "wild").mkdir()
    (made / "wild" / "fullchain.pem").write_bytes(WILD.cert)
    (made / "wild" / "privkey.pem").write_bytes(WILD.key)
    (tmp_path / "root.pem").write_bytes(CA.pem)
    return made


@contextmanager
def serving(folder, workers=1):
    with (
        hello_backend() as backend,
        sidecar(
            f"--cert-dir={folder}",
            f"--workers={workers}",
            f"--frontend-addr=127.0.0.1:{free_port()}",
            f"--backend-addr=127.0.0.1:{backend}",
        ) as running,
    ):
        yield running


def curl(running, folder, name):
    """What curl fetches that believes our root only, and checks the name; its error, if it does not."""
    result = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", folder.parent / "root.pem",
         "--resolve", f"{name}:{running.port}:127.0.0.1", f"https://{name}:{running.port}/"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return result.stdout or result.stderr


def shown(running, name):
    """The certificate that OpenSSL's client is shown for a name; for None it sends none."""
    asked = ["-noservername"] if name is None else ["-servername", name]
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", *asked],
        capture_output=True, text=True, timeout=PATIENCE, input="", check=True,
    )  # fmt: skip
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return (begin + result.stdout.partition(begin)[2].partition(end)[0] + end + "\n").encode()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_name_that_is_asked_for_chooses(folder, workers):
    with serving(folder, workers) as running:
        for name in ("web.example", "shop.example", "a.shop.example"):
            assert curl(running, folder, name) == "hello\n"
        assert "SSL" in curl(running, folder, "unknown.example")
        expected = {
            "web.example": WEB, "SHOP.example": SHOP, "x.shop.example": WILD, "a.b.shop.example": WEB,
            "unknown.example": WEB, None: WEB,
        }  # fmt: skip
        assert {name: shown(running, name) for name in expected} == {n: pem.cert for n, pem in expected.items()}
        assert running.said("default.crt for web.example, valid .*; 2 more by name")
        assert not running.said("WARN|ERROR")


class Load:
    """Requests without pause on connections that stay open, one to each name."""

    def __init__(self, port, names):
        self.failures = []
        self.done = dict.fromkeys(names, 0)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port, name)) for name in names]

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for each in self._threads:
            each.join(PATIENCE)
        assert self.failures == []

    def moved(self):
        """Wait until each has had another ten answers."""
        goal = {name: count + 10 for name, count in self.done.items()}
        wait_until(lambda: self.failures or all(self.done[name] >= goal[name] for name in goal), "answers under load")
        assert self.failures == []

    def _run(self, port, name):
        connection = http.client.HTTPSConnection(name, port, timeout=PATIENCE, context=any_certificate())
        connection._create_connection = lambda *_, **__: create_connection(("127.0.0.1", port), PATIENCE)
        try:
            connection.request("GET", "/")
            own_end = connection.sock.getsockname()
            while not self._stop.is_set():
                if connection.getresponse().read() != b"hello\n" or connection.sock.getsockname() != own_end:
                    raise AssertionError(name)
                self.done[name] += 1
                connection.request("GET", "/")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failures.append(f"{name}: {error!r}")
        finally:
            connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_each_reloads_alone_under_load(folder, workers):
    names = ("web.example", "shop.example", "a.shop.example")
    with serving(folder, workers) as running, Load(running.port, names) as load:
        load.moved()
        fresh = CA.issue("shop.example")
        put(folder, "shop", fresh)
        running.wait_for(RELOADED, 1)
        load.moved()
        assert [shown(running, name) for name in names] == [WEB.cert, fresh.cert, WILD.cert]

        other = CA.issue("web.example")
        put(folder, "default", other)
        running.wait_for(RELOADED, 2)
        load.moved()
        assert [shown(running, name) for name in names] == [other.cert, fresh.cert, WILD.cert]
        assert not running.said("WARN|ERROR")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_one_keeps_its_last_and_the_others_go_on(folder, workers):
    with serving(folder, workers) as running:
        (folder / "shop.crt").write_bytes(WEB.cert)
        line = running.wait_for("ERROR")[0]
        assert f"{folder}/shop.key: not the key of the first certificate in {folder}/shop.crt" in line
        assert shown(running, "shop.example") == SHOP.cert

        fresh = CA.issue("*.shop.example")
        (folder / "wild" / "fullchain.pem").write_bytes(fresh.cert)
        (folder / "wild" / "privkey.pem").write_bytes(fresh.key)
        running.wait_for(RELOADED)
        assert shown(running, "x.shop.example") == fresh.cert
        assert shown(running, "shop.example") == SHOP.cert
        assert len(running.said("ERROR")) == 1

        good = CA.issue("shop.example")
        put(folder, "shop", good)
        running.wait_for(RELOADED, 2)
        assert shown(running, "shop.example") == good.cert
        assert len(running.said("ERROR")) == 1


def test_pairs_come_and_go(folder):
    with serving(folder) as running:
        fresh = CA.issue("new.example")
        put(folder, "new", fresh)
        running.wait_for(RELOADED, 1)
        assert shown(running, "new.example") == fresh.cert
        for name in ("new.crt", "new.key"):
            (folder / name).unlink()
        shutil.rmtree(folder / "wild")
        running.wait_for(RELOADED, 2)
        assert shown(running, "new.example") == WEB.cert
        assert shown(running, "x.shop.example") == WEB.cert
        for each in folder.iterdir():
            each.unlink()
        running.wait_for(f"Certificate not reloaded, the one before stays in force: {folder}: no certificate in it")
        assert shown(running, "shop.example") == SHOP.cert


def test_one_that_is_bad_at_the_start_is_left_out(folder):
    (folder / "default.key").write_bytes(b"")
    with serving(folder) as running:
        assert len(running.said(f"ERROR.*Not taken up: {folder}/default.key: the file is empty")) == 1
        assert shown(running, "unknown.example") == SHOP.cert


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: path.mkdir(), "no certificate in it; needed is NAME.crt with NAME.key"),
        (lambda path: path.touch(), "not a folder"),
        (lambda path: None, "no such folder"),
    ],
    ids=["empty", "file", "missing"],
)
def test_a_folder_that_gives_nothing_is_one_line(tmp_path, port, prepare, reason):
    path = tmp_path / "certs"
    prepare(path)
    result = refused(f"--cert-dir={path}", f"--frontend-addr=127.0.0.1:{port}")

    assert result.returncode == 2
    assert f"cert-dir: {path}: {reason}" in result.stderr.splitlines()[-1]


def test_a_name_that_is_not_ascii_fills_no_log(folder):
    """Python would write a traceback for each; the name is put into a ClientHello that OpenSSL made."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        any_certificate().wrap_bio(incoming, outgoing, server_hostname="qqqqqqqq.example").do_handshake()
    with serving(folder) as running:
        with create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as raw:
            raw.sendall(outgoing.read().replace(b"qqqqqqqq", b"\xff" * 8))
            assert raw.recv(1) == b"\x15", "an alert"
        assert shown(running, "shop.example") == SHOP.cert
        assert not running.said("Traceback|ignored")
