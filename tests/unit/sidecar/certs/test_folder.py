"""A folder of pairs: which there are, in which order, and what becomes of those that change."""

from __future__ import annotations

import anyio
import pytest

from lab.certificates import make
from sslterm.certs import folder
from sslterm.certs.bundle import Rejected
from sslterm.certs.folder import Folder

A, B = make("a.example"), make("b.example")
TICK = 0.01


def put(path, pem, cert="fullchain.pem", key="privkey.pem"):
    """A pair as certbot keeps it."""
    path.mkdir(exist_ok=True)
    (path / cert).write_bytes(pem.cert)
    (path / key).write_bytes(pem.key)


def flat(path, name, pem):
    put(path, pem, f"{name}.crt", f"{name}.key")


def obtain(path):
    return anyio.run(Folder(path).obtain)


def sources(credentials, path):
    return [each.source.removeprefix(f"{path}/") for each in credentials.pairs]


def test_each_way_in_which_pairs_are_kept_and_the_first_by_name_is_the_default(tmp_path):
    flat(tmp_path, "web", A)
    put(tmp_path / "shop.example", B)
    put(tmp_path / "secret", B, "tls.crt", "tls.key")
    (tmp_path / "README").write_text("certbot's")
    (tmp_path / "empty").mkdir()
    found = obtain(tmp_path)

    assert sources(found, tmp_path) == ["secret/tls.crt", "shop.example/fullchain.pem", "web.crt"]
    assert found.faults == ()
    assert found.pairs[2].key == A.key


@pytest.mark.parametrize("default", [flat, lambda path, name, pem: put(path / name, pem)], ids=["files", "folder"])
def test_one_called_default_is_the_default(tmp_path, default):
    flat(tmp_path, "a", A)
    default(tmp_path, "default", B)
    found = obtain(tmp_path)

    assert found.pairs[0].chain == B.cert
    assert len(found.pairs) == 2


def test_a_kubernetes_secret_is_one_pair_and_its_own_folders_are_none(tmp_path):
    put(tmp_path / "..2026_11_24", A, "tls.crt", "tls.key")
    (tmp_path / "..2026_11_24" / "ca.crt").write_bytes(B.cert)
    (tmp_path / "..data").symlink_to("..2026_11_24")
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    found = obtain(tmp_path)

    assert sources(found, tmp_path) == ["tls.crt"]
    assert found.faults == ()


def test_a_certificate_without_its_key_is_told_and_left_out(tmp_path):
    flat(tmp_path, "a", A)
    flat(tmp_path, "b", B)
    (tmp_path / "a.key").unlink()
    found = obtain(tmp_path)

    assert sources(found, tmp_path) == ["b.crt"]
    assert found.faults == (f"{tmp_path}/a.key: no such file",)


def test_one_that_cannot_be_read_any_more_stays_as_it_was(tmp_path):
    flat(tmp_path, "a", A)
    flat(tmp_path, "b", B)

    async def run():
        source = Folder(tmp_path)
        await source.obtain()
        (tmp_path / "a.key").unlink()
        flat(tmp_path, "b", A)
        return await source.obtain()

    found = anyio.run(run)

    assert [each.chain for each in found.pairs] == [A.cert, A.cert]
    assert found.faults == (f"{tmp_path}/a.key: no such file",)


def test_a_folder_without_a_pair_says_what_is_needed(tmp_path):
    with pytest.raises(Rejected, match=f"{tmp_path}: no certificate in it; needed is NAME.crt with NAME.key, or"):
        obtain(tmp_path)


def test_a_folder_whose_only_pair_is_half_names_the_half(tmp_path):
    flat(tmp_path, "a", A)
    (tmp_path / "a.key").unlink()
    with pytest.raises(Rejected, match=r"a\.key: no such file"):
        obtain(tmp_path)


def test_what_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Rejected, match="file: not a folder"):
        obtain(tmp_path / "file")
    with pytest.raises(Rejected, match="missing: no such folder"):
        obtain(tmp_path / "missing")


def test_their_number_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_MOST", 2)
    for name in ("a", "b"):
        flat(tmp_path, name, A)
    assert len(Folder(tmp_path)._look()) == 2
    flat(tmp_path, "c", A)
    with pytest.raises(Rejected, match=f"{tmp_path}: 3 certificates; at most 2 are served"):
        obtain(tmp_path)
    monkeypatch.setattr(folder, "_MOST_ENTRIES", 5)
    with pytest.raises(Rejected, match=f"{tmp_path}: more than 5 files"):
        obtain(tmp_path)


def changes(path, change):
    """Wait until `change` is seen, then what is obtained."""

    async def run():
        source = Folder(path, interval=TICK)
        await source.obtain()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.changed)
            await anyio.sleep(3 * TICK)
            change()
        return await source.obtain()

    return anyio.run(run)


def test_a_pair_that_comes_goes_or_changes_is_seen(tmp_path):
    flat(tmp_path, "a", A)

    assert sources(changes(tmp_path, lambda: put(tmp_path / "b", B)), tmp_path) == ["a.crt", "b/fullchain.pem"]
    assert changes(tmp_path, lambda: flat(tmp_path, "a", B)).pairs[0].chain == B.cert

    def remove():
        for name in ("a.crt", "a.key"):
            (tmp_path / name).unlink()

    assert sources(changes(tmp_path, remove), tmp_path) == ["b/fullchain.pem"]


def test_one_pair_that_never_comes_to_rest_holds_up_no_other(tmp_path):
    """Whatever `a` does, `b` is taken up when two looks found it the same."""
    flat(tmp_path, "a", A)
    flat(tmp_path, "b", B)

    async def run():
        source = Folder(tmp_path, interval=TICK)
        await source.obtain()
        look, count = source._look, iter(range(10_000))

        def restless():
            found = look()
            first = next(iter(found))
            return found | {first: ((next(count), 0, 0, 0), None)}

        source._look = restless
        flat(tmp_path, "b", A)
        await source.changed()

    anyio.run(run)


def test_a_folder_that_is_gone_is_a_change_and_keeps_what_it_had(tmp_path):
    flat(tmp_path / "certs", "a", A)
    with pytest.raises(Rejected, match="certs: no such folder"):
        changes(tmp_path / "certs", lambda: (tmp_path / "certs").rename(tmp_path / "gone"))
