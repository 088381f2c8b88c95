"""The roots get where a container's programs look for them, once, and stay there."""

import subprocess
import time

import pytest
from cryptography import x509

from byfahrer.authority.ca import OwnRoot
from byfahrer.authority.certificates import pem
from byfahrer.authority.state import StateFolder
from byfahrer.engine.errors import NotFoundError
from byfahrer.model import File
from byfahrer.trust import TrustError, roots, subject_hash, trust
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio

DEBIAN = "/etc/ssl/certs/ca-certificates.crt"
FEDORA = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
OTHERS = b"-----BEGIN CERTIFICATE-----\nMIIBother\n-----END CERTIFICATE-----\n"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def root(tmp_path):
    OwnRoot(StateFolder(tmp_path / "state"))
    return roots(tmp_path / "state", "")


class Shop:
    """A container with files, and what was written there."""

    def __init__(self, **files):
        self.engine = MemoryEngine()
        self.id = self.engine.run("shop", freedoms=("a writable root",))
        self.links = {}

    def has(self, path, content, at="", **fields):
        """A file, perhaps found under another path by a symbolic link."""
        self.engine.files[self.id, path] = File(path=at or path, content=content, **fields)

    async def trusts(self, pem):
        return await trust(self.engine, self.engine.all[self.id], pem)

    def content(self, path):
        return self.engine.files[self.id, path].content


async def test_debians_bundle_its_sources_and_its_folder_of_hashes(root):
    shop = Shop()
    shop.has(DEBIAN, OTHERS, uid=5, gid=6, mode=0o640)
    written = await shop.trusts(root)
    hashed = f"/etc/ssl/certs/{subject_hash(x509.load_pem_x509_certificate(root).subject)}.0"

    assert written == [DEBIAN, "/usr/local/share/ca-certificates/byfahrer.crt", hashed]
    assert shop.content(DEBIAN) == OTHERS + root
    bundle = shop.engine.files[shop.id, DEBIAN]
    assert (bundle.uid, bundle.gid, bundle.mode) == (5, 6, 0o640)
    assert shop.content(hashed) == shop.content(written[1]) == root


async def test_a_second_time_there_is_nothing_to_do(root):
    shop = Shop()
    shop.has(DEBIAN, OTHERS)
    await shop.trusts(root)
    before = dict(shop.engine.files)

    assert await shop.trusts(root) == []
    assert shop.engine.files == before


async def test_a_bundle_that_is_a_link_is_written_where_it_leads(root):
    shop = Shop()
    shop.has("/etc/pki/tls/certs/ca-bundle.crt", OTHERS, at=FEDORA)
    shop.has(DEBIAN, OTHERS, at=FEDORA)  # Fedora has a link there too

    assert FEDORA in await shop.trusts(root)
    assert shop.content(FEDORA).count(b"BEGIN CERTIFICATE") == 2


async def test_fedora_and_suse_have_their_own_sources(root):
    for bundle, sources in (
        ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/source/anchors"),
        ("/etc/ssl/ca-bundle.pem", "/etc/pki/trust/anchors"),
    ):
        shop = Shop()
        shop.has(bundle, OTHERS)

        assert await shop.trusts(root) == [bundle, f"{sources}/byfahrer.crt"]


async def test_during_a_rotation_both_roots_are_there_in_a_file_each(tmp_path, root):
    OwnRoot(StateFolder(tmp_path / "state")).rotate()
    both = roots(tmp_path / "state", "")
    shop = Shop()
    shop.has(DEBIAN, OTHERS + root)
    written = await shop.trusts(both)
    sources = "/usr/local/share/ca-certificates"

    assert both.count(b"BEGIN CERTIFICATE") == 2
    assert shop.content(DEBIAN).count(b"BEGIN CERTIFICATE") == 3
    assert shop.content(f"{sources}/byfahrer.crt") + shop.content(f"{sources}/byfahrer-2.crt") == both
    assert len(written) == 5


async def test_a_file_of_the_same_hash_is_left_alone(root):
    shop = Shop()
    shop.has(DEBIAN, OTHERS)
    hashed = f"/etc/ssl/certs/{subject_hash(x509.load_pem_x509_certificate(root).subject)}"
    shop.has(f"{hashed}.0", OTHERS)

    assert f"{hashed}.1" in await shop.trusts(root)
    assert shop.content(f"{hashed}.0") == OTHERS


async def test_a_folder_that_is_not_there_is_made(root):
    shop = Shop()
    shop.has(DEBIAN, OTHERS)
    shop.engine.broken["put_files"] = [NotFoundError("no such folder")]
    written = await shop.trusts(root)

    assert shop.engine.files[shop.id, "/" + DEBIAN].content == OTHERS + root
    assert written[0] == DEBIAN


async def test_who_has_no_store_or_cannot_be_written_to_is_told(root):
    shop = Shop()
    with pytest.raises(TrustError, match=r"'shop' has no system store .*: install ca-certificates in it first"):
        await shop.trusts(root)
    sealed = shop.engine.run("sealed")
    with pytest.raises(TrustError, match="'sealed' has a read-only root"):
        await trust(shop.engine, shop.engine.all[sealed], root)
    assert shop.engine.calls["put_files"] == 0


async def test_a_bundle_of_nothing_but_beginnings_costs_no_time(root):
    shop = Shop()
    shop.has(DEBIAN, b"-----BEGIN CERTIFICATE-----" * 100_000)
    began = time.process_time()
    assert await shop.trusts(root)
    assert time.process_time() - began < 2


def test_without_a_state_there_is_nothing_to_trust_and_none_is_made(tmp_path):
    with pytest.raises(TrustError, match=r"there is no root in .*: run this where byfahrer runs"):
        roots(tmp_path / "none", "")
    assert not (tmp_path / "none" / "ca.json").exists()


def test_of_a_chain_that_was_brought_the_last_is_the_root(tmp_path, root):
    other = tmp_path / "other"
    OwnRoot(StateFolder(other))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(root + roots(other, ""))

    assert roots(tmp_path / "state", str(chain)) == roots(other, "")
    chain.write_text("nonsense")
    with pytest.raises(TrustError, match=r"--ca-cert .*: expected PEM"):
        roots(tmp_path / "state", str(chain))


@pytest.mark.parametrize(
    "subject", ["/CN=byfahrer root 1a", "/C=DE/O=A  B /CN=\u00dcn\u00ef/emailAddress=a@B.c", "/O=x" + "y" * 60]
)
def test_the_hash_of_a_name_is_openssls(tmp_path, subject):
    made = subprocess.run(
        ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-utf8",
         "-subj", subject, "-keyout", tmp_path / "key"),
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    asked = subprocess.run(
        ("openssl", "x509", "-subject_hash", "-noout"), input=made, check=True, capture_output=True
    ).stdout  # fmt: skip

    assert subject_hash(x509.load_pem_x509_certificate(made).subject) == asked.decode().strip()
    assert pem(x509.load_pem_x509_certificate(made)).encode() == made
