"""What goes into a container arrives as it is; of what comes out, nothing is believed."""

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byfahrer.engine import archive
from byfahrer.engine.errors import UnusableError
from byfahrer.model import File


def packed(*entries):
    """An archive of entries with the content beside each."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def entry(name="x", kind=tarfile.REGTYPE, **fields):
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def test_what_is_packed_has_its_owner_and_mode():
    files = [
        File(path="acme", content=None, uid=64443, gid=64444, mode=0o700),
        File(path="token", content=b"secret", uid=1, gid=2, mode=0o400),
    ]
    with tarfile.open(fileobj=io.BytesIO(archive.pack(files))) as tar:
        folder, file = tar.getmembers()
        content = tar.extractfile(file).read()

    assert (folder.name, folder.isdir(), folder.uid, folder.gid, folder.mode) == ("acme", True, 64443, 64444, 0o700)
    assert (file.name, file.uid, file.gid, file.mode, content) == ("token", 1, 2, 0o400, b"secret")
    assert "secret" not in repr(files)


def test_one_plain_file_comes_out():
    data = packed((entry("ca.crt", uid=3, gid=4, mode=0o100640), b"abc"), (entry("other"), b"z"))

    assert archive.unpack("/etc/ca.crt", [data[:100], data[100:]], 3) == File(
        path="/etc/ca.crt", content=b"abc", uid=3, gid=4, mode=0o640
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1024,
        b"x" * 2048,
        packed((entry(kind=tarfile.DIRTYPE), b"")),
        packed((entry(kind=tarfile.SYMTYPE, linkname="/etc/shadow"), b"")),
        packed((entry(kind=tarfile.LNKTYPE, linkname="y"), b"")),
        packed((entry(kind=tarfile.FIFOTYPE), b"")),
        packed((entry(kind=tarfile.CHRTYPE), b"")),
        packed((entry(), b"abcdef"))[:515],
    ],
    ids=["nothing", "empty", "noise", "folder", "symlink", "hard link", "fifo", "device", "cut off"],
)
def test_anything_else_is_refused(data):
    with pytest.raises(UnusableError, match=r"/etc/x (is no plain file|came (as no archive|in part only))"):
        archive.unpack("/etc/x", [data], 100)


def test_no_more_is_read_than_was_asked_for():
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield bytes(65536)

    with pytest.raises(UnusableError, match="more than 1000 bytes"):
        archive.unpack("/x", endless(), 1000)
    assert len(asked) == 2
    with pytest.raises(UnusableError, match="more than 5 bytes"):
        archive.unpack("/x", [packed((entry(), b"abcdef"))], 5)


def test_a_size_that_is_a_lie_is_no_size():
    data = bytearray(packed((entry(), b"abc")))
    for size in (b"77777777777\0", b"\xff" * 12, b"\x80" + b"\xff" * 11):
        data[124:136] = size
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
        with pytest.raises(UnusableError):
            archive.unpack("/x", [bytes(data)], 100)


@given(st.binary(max_size=3000), st.integers(0, 511), st.binary(min_size=1, max_size=40))
def test_any_bytes_give_a_file_or_a_refusal(noise, at, patch):
    whole = bytearray(packed((entry(), b"abc")))
    whole[at : at + len(patch)] = patch
    for data in (noise, bytes(whole)):
        with suppress(UnusableError):
            assert len(archive.unpack("/x", [data], 1000).content) <= 1000


@pytest.mark.parametrize(
    ("stat", "expected"),
    [
        ({"mode": (1 << 27) | 0o777, "linkTarget": "/etc/pki/ca.pem"}, "/etc/pki/ca.pem"),
        ({"mode": (1 << 27), "linkTarget": "../../a/../b"}, "/b"),
        ({"mode": 0o644, "linkTarget": "/x"}, None),
        ({"mode": 1 << 27, "linkTarget": ""}, None),
        ({"mode": "x", "linkTarget": 7}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_link_leads_where_the_engine_says(stat, expected):
    assert archive.link_target(stat) == expected
