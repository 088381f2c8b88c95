"""Certificates and authorities from two places: neither keeps the other from being taken up."""

from __future__ import annotations

import anyio
import pytest

from lab.certificates import make
from lab.private_ca import PrivateCa
from sslterm.certs.bundle import Credentials, Rejected
from sslterm.certs.files import AuthoritiesFile, FilePair
from sslterm.certs.joined import Joined

FIRST, SECOND = make("first"), make("second")
OLD_CA, NEW_CA = PrivateCa.made("old").pem, PrivateCa.made("new").pem
TICK = 0.01


@pytest.fixture
def joined(tmp_path):
    (tmp_path / "ca.pem").write_bytes(OLD_CA)
    return Joined(FilePair(*FIRST.write(tmp_path), interval=TICK), AuthoritiesFile(tmp_path / "ca.pem", interval=TICK))


def test_both_come_as_one(joined, tmp_path):
    found = anyio.run(joined.obtain)

    assert (found.pairs[0].chain, found.authorities, found.faults) == (FIRST.cert, OLD_CA, ())
    assert found.authorities_source == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("name", ["ca.pem", "key.pem"])
def test_at_first_both_are_needed(joined, tmp_path, name):
    (tmp_path / name).unlink()
    with pytest.raises(Rejected, match=f"{name}: no such file"):
        anyio.run(joined.obtain)


@pytest.mark.parametrize("name", ["ca.pem", "key.pem"])
def test_later_one_that_is_gone_is_told_and_the_other_is_taken_up(joined, tmp_path, name):
    async def run():
        await joined.obtain()
        SECOND.write(tmp_path)
        (tmp_path / "ca.pem").write_bytes(NEW_CA)
        (tmp_path / name).unlink()
        return await joined.obtain()

    found = anyio.run(run)
    expected = {"ca.pem": (SECOND.cert, OLD_CA), "key.pem": (FIRST.cert, NEW_CA)}

    assert (found.pairs[0].chain, found.authorities) == expected[name]
    assert found.faults == (f"{tmp_path / name}: no such file",)


@pytest.mark.parametrize("change", ["ca.pem", "cert.pem"])
def test_a_change_of_either_is_seen(joined, tmp_path, change):
    async def run() -> Credentials:
        await joined.obtain()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(joined.changed)
            await anyio.sleep(3 * TICK)
            (tmp_path / change).write_bytes(NEW_CA if change == "ca.pem" else SECOND.cert)
        return await joined.obtain()

    found = anyio.run(run)

    assert (found.pairs[0].chain, found.authorities) != (FIRST.cert, OLD_CA)


@pytest.mark.parametrize(("change", "obtained"), [("ca.pem", 1), ("cert.pem", 2), (None, 2)])
def test_only_what_changed_is_obtained_again_or_both_when_asked_to(joined, tmp_path, change, obtained):
    """A source may make a key, or ask somebody, each time."""
    times = 0
    obtain = joined._source.obtain

    async def counted():
        nonlocal times
        times += 1
        return await obtain()

    joined._source.obtain = counted

    async def run():
        await joined.obtain()
        if change is not None:
            (tmp_path / change).write_bytes(NEW_CA)
            await joined.changed()
        await joined.obtain()

    anyio.run(run)

    assert times == obtained
