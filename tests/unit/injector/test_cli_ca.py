"""`byfahrer ca`, as people use it: on a state folder, without a daemon or an engine."""

import datetime as dt
import json
import ssl
import subprocess

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from byfahrer import cli, cli_ca
from byfahrer.authority import ledger
from byfahrer.authority.ca import FILE, OwnRoot, Terms
from byfahrer.authority.errors import AuthorityError
from byfahrer.authority.ledger import CLIENTS, Holder
from byfahrer.authority.state import StateFolder
from byfahrer.authority.times import moment, utc
from byfahrer.settings import SettingError
from byfahrer.trust import TrustError
from lab.authority import verify


@pytest.fixture
def state(tmp_path):
    """A state folder with a root in it."""
    folder = StateFolder(tmp_path / "state")
    OwnRoot(folder)
    return folder


def invoke(folder, *arguments, **more):
    done = CliRunner().invoke(
        cli.cli, ["ca", *arguments], env={"BYFAHRER_STATE_DIR": str(folder.path)}, catch_exceptions=False, **more
    )
    assert done.exit_code == 0, done.stderr
    return done


def refused(folder, *arguments, error=SettingError):
    with pytest.raises(error) as raised:
        invoke(folder, *arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_help_teaches_by_example(state):
    for arguments in ((), ("root",), ("issue",), ("ls",), ("rotate",)):
        assert "Examples:" in invoke(state, *arguments, "--help").output


def test_root_prints_what_is_to_be_believed(state):
    before = invoke(state, "root").stdout
    assert x509.load_pem_x509_certificates(before.encode())[0] == OwnRoot(state).issuer().roots[0]
    invoke(state, "rotate")
    both, current = invoke(state, "root").stdout, invoke(state, "root", "--current").stdout

    assert both == current + before
    assert current != before


def test_a_folder_without_a_root_is_told_and_not_made(tmp_path):
    folder = StateFolder(tmp_path / "elsewhere")
    for arguments in (("root",), ("issue", "--name", "x"), ("rotate",)):
        assert "there is no root here; byfahrer run makes it" in refused(folder, *arguments, error=AuthorityError)

    assert not folder.path.exists()


def test_issue_prints_a_client_pair_that_verifies_and_is_for_clients_only(state, tmp_path):
    done = invoke(state, "issue", "--name", "laptop")
    key, _, chain = done.stdout.partition("-----END PRIVATE KEY-----\n")
    roots = invoke(state, "root").stdout
    (leaf,) = x509.load_pem_x509_certificates(chain.encode())
    general = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert key.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert general.get_values_for_type(x509.DNSName) == ["laptop"]
    assert general.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://byfahrer.internal/client/laptop"]
    assert leaf.subject.rfc4514_string() == "CN=laptop"
    assert abs(leaf.not_valid_after_utc - utc() - dt.timedelta(days=90)) < dt.timedelta(minutes=1)
    assert verify(tmp_path, chain, roots, "-purpose", "sslclient", at=utc()) == ""
    assert "unsuitable" in verify(tmp_path, chain, roots, "-purpose", "sslserver", at=utc())
    assert "PRIVATE" not in done.stderr
    assert done.stderr.startswith("spiffe://byfahrer.internal/client/laptop, until 20")


def test_issue_writes_a_file_for_its_owner_only_and_overwrites_none(state, tmp_path):
    out = tmp_path / "laptop.pem"
    assert invoke(state, "issue", "--name", "laptop", "--out", str(out), "--life", "1d").stdout == ""
    assert out.stat().st_mode & 0o777 == 0o600
    ssl.create_default_context().load_cert_chain(out)
    before = out.read_bytes()
    said = refused(state, "issue", "--name", "laptop", "--out", str(out))

    assert said == f"--out={str(out)!r}: File exists; it may hold a key: move it away first"
    assert out.read_bytes() == before
    assert len(ledger.read(state, CLIENTS)) == 1


def test_what_cannot_be_noted_is_not_handed_out(state, tmp_path):
    state.write(CLIENTS, b"{")
    out = tmp_path / "laptop.pem"
    assert "it is damaged" in refused(state, "issue", "--name", "laptop", "--out", str(out), error=AuthorityError)

    assert not out.exists()


def test_issue_makes_pkcs12_with_a_password(state, tmp_path):
    (tmp_path / "password").write_text("secret\nmore\n")
    out = tmp_path / "phone.p12"
    invoke(state, "issue", "--name", "phone", "--p12", "--out", str(out), "--password-file", str(tmp_path / "password"))
    found = load_pkcs12(out.read_bytes(), b"secret")
    command = ["openssl", "pkcs12", "-in", str(out), "-passin", "pass:secret", "-nodes"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert out.stat().st_mode & 0o777 == 0o600
    assert found.cert.friendly_name == b"phone"
    assert [each.certificate for each in found.additional_certs] == list(OwnRoot(state).issuer().roots)
    assert "subject=CN = phone" in shown
    with pytest.raises(ValueError, match="Invalid password"):
        load_pkcs12(out.read_bytes(), b"other")


def test_a_password_is_asked_for_on_a_terminal_and_not_shown(state, tmp_path, monkeypatch):
    monkeypatch.setattr(cli_ca, "_terminal", lambda: True)
    out = tmp_path / "phone.p12"
    done = invoke(state, "issue", "--name", "phone", "--p12", "--out", str(out), input="secret\nsecret\n")

    assert load_pkcs12(out.read_bytes(), b"secret").key
    assert "secret" not in done.output
    assert "Repeat for confirmation" in done.output


def test_without_a_terminal_the_password_is_the_first_line_of_stdin(state, tmp_path):
    out = tmp_path / "phone.p12"
    invoke(state, "issue", "--name", "phone", "--p12", "--out", str(out), input="secret\nmore\n")

    assert load_pkcs12(out.read_bytes(), b"secret").key
    assert "as the first line of stdin" in refused(state, "issue", "--name", "a", "--p12")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "A B"], "--name='A B': expected a DNS name in lower case, such as laptop"),
        (["--name", "a/b"], "--name='a/b': expected a DNS name"),
        (["--name", "a", "--life", "1s"], "--life='1s': expected a duration from 1m to 90d"),
        (["--name", "a", "--life", "91d"], "--life='91d': expected"),
        (["--name", "a", "--p12", "--password-file", "/nowhere"], "--password-file='/nowhere': No such file"),
        (["--name", "a", "--p12", "--password-file", "/dev/null"], "expected a password in its first line"),
        (["--name", "a", "--out", "/nowhere/x"], "--out='/nowhere/x': No such file or directory"),
        (["--name", "a", "--ca-cert", "/x"], "expected --ca-key beside it"),
        (["--name", "a", "--trust-domain", "A"], "--trust-domain='A': expected"),
    ],
)
def test_what_is_wrong_is_one_line(state, arguments, said):
    assert said in refused(state, "issue", *arguments)


def test_a_trust_domain_that_the_root_is_not_for_is_told(state):
    said = refused(state, "issue", "--name", "a", "--trust-domain", "shop.example", error=AuthorityError)

    assert "its root is for the trust domain byfahrer.internal, not shop.example" in said


def test_an_authority_of_ones_own_signs_too(state, tmp_path):
    told = json.loads(state.read(FILE))
    (tmp_path / "ca.pem").write_text(told["root"])
    (tmp_path / "ca.key").write_text(told["key"])
    empty = StateFolder(tmp_path / "empty")
    brought = ("--ca-cert", str(tmp_path / "ca.pem"))
    chain = invoke(empty, "issue", "--name", "a", *brought, "--ca-key", str(tmp_path / "ca.key")).stdout

    assert invoke(empty, "root", *brought).stdout == told["root"]
    assert verify(tmp_path, chain.partition("KEY-----\n")[2].partition("KEY-----\n")[2], told["root"], at=utc()) == ""
    with pytest.raises(TrustError, match="No such file"):
        invoke(empty, "root", "--ca-cert", "/nowhere")


def test_ls_is_a_table_with_headings_or_json(state):
    now = utc()
    sidecars = [
        Holder(target="www", sidecar_id="1", names=["localhost", "www"], spiffe="spiffe://td/ns/default/svc/www",
               issued=moment(now - dt.timedelta(hours=3)), renews=moment(now + dt.timedelta(hours=9, seconds=30)),
               not_after=moment(now + dt.timedelta(hours=21, seconds=30))),
        Holder(target="db\n", sidecar_id="2", names=["x" * 100], not_after=moment(now), failing="no\nroute"),
        Holder(target="odd", sidecar_id="4", not_after=moment(now + dt.timedelta(days=1)), failing="\ud800\u202e"),
        Holder(target="api", sidecar_id="3", not_after=moment(now + dt.timedelta(seconds=90)), failing="no\nroute"),
    ]  # fmt: skip
    state.write(ledger.FILE, ledger.content_of(sidecars))
    invoke(state, "issue", "--name", "laptop")
    lines = invoke(state, "ls").stdout.splitlines()

    assert lines[0].split() == list(cli_ca.HEADINGS)
    assert [line.split()[0] for line in lines[1:]] == ["api", "db\\n", "laptop", "odd", "www"]
    assert lines[1].endswith(r"  failing: no\nroute")
    assert lines[2].endswith("  expired")
    assert lines[3].split()[1:3] == ["laptop", "spiffe://byfahrer.internal/client/laptop"]
    assert lines[3].split()[-4:] == ["in", "89d", "-", "valid"]
    assert lines[4].endswith(r"  failing: \ud800\u202e")
    assert lines[5].split()[-7:] == ["3h", "ago", "in", "21h", "in", "9h", "valid"]
    found = json.loads(invoke(state, "ls", "--json").stdout)
    assert [(each["target"], each["state"]) for each in found][4] == ("www", "valid")


def test_ls_of_nothing_is_nothing(tmp_path):
    assert invoke(StateFolder(tmp_path / "none"), "ls", "--json").stdout == "[]\n"


def test_rotate_says_what_it_did_and_until_when(state):
    assert ": hand out the new one by then" in invoke(state, "rotate", "--overlap", "30d").stdout
    assert len(OwnRoot(state).issuer().roots) == 2
    assert "none before it is believed any more" in invoke(state, "rotate", "--overlap", "0").stdout
    assert len(OwnRoot(state).issuer().roots) == 1


def test_rotate_to_other_terms_warns_of_what_no_overlap_can_help(tmp_path):
    folder = StateFolder(tmp_path / "state")
    OwnRoot(folder, Terms(trust_domain="a.example"))
    said = invoke(folder, "rotate", "--trust-domain", "b.example", "--permit-dns", "lan").stdout

    assert "does not believe new certificates" in said
    OwnRoot(folder, Terms(trust_domain="b.example", permit_dns=("lan",)))


@pytest.mark.parametrize("overlap", ["x", "-1d", "366d", "0d0", "1w", "7", "0.5", ""])
def test_an_overlap_that_is_none_is_told(state, overlap):
    assert f"--overlap={overlap!r}: expected a duration up to 365d" in refused(state, "rotate", "--overlap", overlap)


def test_an_authority_that_was_brought_is_not_ours_to_rotate(state, monkeypatch):
    monkeypatch.setenv("BYFAHRER_CA_CERT", "/etc/ca.pem")
    assert "--ca-cert='/etc/ca.pem': it is not ours to rotate: put a new chain" in refused(state, "rotate")
    assert len(OwnRoot(state).issuer().roots) == 1


def test_no_command_says_a_key(state, said_by_main):
    state.write(FILE, state.read(FILE).replace(b"PRIVATE KEY", b"PRIVATE KAY"))
    code, said = said_by_main(state, "ca", "root")

    assert code == 2
    assert said.count("\n") == 1
    assert "it is damaged" in said
    assert json.loads(state.read(FILE))["key"].splitlines()[1] not in said


@pytest.fixture
def said_by_main(monkeypatch, capsys):
    """Exit code and stderr of the whole program."""

    def run(folder, *arguments):
        monkeypatch.setattr(cli.sys, "argv", ["byfahrer", *arguments])
        monkeypatch.setenv("BYFAHRER_STATE_DIR", str(folder.path))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    return run


def test_in_a_container_the_root_is_waited_for_until_the_daemon_has_made_it(tmp_path, monkeypatch):
    folder = StateFolder(tmp_path / "state")
    monkeypatch.setattr(cli_ca.options, "own_id", lambda: "a" * 64)
    monkeypatch.setattr(cli_ca.time, "sleep", lambda _: OwnRoot(folder))

    assert invoke(folder, "root").stdout == OwnRoot(folder).issuer().authorities
