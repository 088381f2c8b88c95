"""`byfahrer ca`: the authority, for people. It works on the state folder, whether a daemon runs or not."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import click

from byfahrer import options, settings, spec, trust
from byfahrer.authority import clients, ledger
from byfahrer.authority.ca import FILE, OVERLAP, OwnRoot, SharedRoot, Terms
from byfahrer.authority.certificates import pem
from byfahrer.authority.issuer import fingerprint
from byfahrer.authority.ledger import Holder
from byfahrer.authority.source import issuers
from byfahrer.authority.state import StateFolder
from byfahrer.authority.times import moment, utc
from byfahrer.model import one_line
from byfahrer.status import aligned
from sslterm.settings import parse_duration

HEADINGS = ("TARGET", "NAMES", "SPIFFE", "ISSUED", "EXPIRES", "RENEWS", "STATE")
MOST_SHOWN = 40
"""Characters of a holder's names in the table; all of them are in --json."""
LONGEST_OVERLAP = 365 * 86400.0
STDOUT = "-"
ROOT_TRIES = 100
"""Tenths of a second."""


@click.group(
    epilog="""\b
Examples:
  byfahrer ca root > root.pem && curl --cacert root.pem https://localhost:8081/
  byfahrer ca issue --name laptop --out laptop.pem && curl --cert laptop.pem …
  byfahrer ca ls                              who holds which certificate, and until when
  byfahrer ca rotate                          a new root; both are believed for a week
  docker exec byfahrer byfahrer ca root       where byfahrer runs in a container
""",
)
def ca() -> None:
    """
    The certificate authority: its root, who holds what, certificates for people.

    Sidecars get theirs by themselves, and renew them. Whoever is to believe them needs the root.
    """


@ca.command()
@click.option("--current", is_flag=True, help="The present root only, while the one before is believed as well.")
@options.state_dir
@options.issuer
@options.ca_file
def root(state_dir: str, ca_cert: str, ca_file: str, *, current: bool) -> None:
    """
    Print the root, in PEM; after a rotation all that are believed.

    It is no secret: give it to whoever is to believe the sidecars.

    \b
    Examples:
      byfahrer ca root > root.pem
      curl --cacert root.pem https://localhost:8081/
      byfahrer ca root | sudo tee /usr/local/share/ca-certificates/byfahrer.crt && sudo update-ca-certificates
    """
    folder = options.state_folder(state_dir)
    if ca_file:
        shared = SharedRoot(Path(ca_file)).issuer().roots
        click.echo(pem(*(shared[:1] if current else shared)), nl=False)
        return
    if ca_cert:
        click.echo(trust.roots(folder, ca_cert).decode(), nl=False)
        return
    # `docker run` is back before the byfahrer in the container has made its root.
    for _ in range(ROOT_TRIES if options.own_id() else 0):
        if StateFolder(folder).read(FILE) is not None:
            break
        time.sleep(0.1)
    roots = OwnRoot(StateFolder(folder), create=False).issuer().roots
    click.echo(pem(*(roots[:1] if current else roots)), nl=False)


@ca.command()
@click.option("--name", required=True, metavar="NAME", help="Whose certificate it is, such as laptop.")
@click.option(
    "--life", default="90d", show_default=True, metavar="DURATION", help="How long it is good for, 1m to 90d.",
)  # fmt: skip
@click.option("--out", default=STDOUT, metavar="FILE", help="Where to write it; must not exist.  [default: stdout]")
@click.option("--p12", is_flag=True, help="As PKCS#12, for browsers and phones, instead of PEM.")
@click.option(
    "--password-file", default="", metavar="FILE",
    help="Its first line is the password for --p12; else it is asked for, or is the first line of stdin.",
)  # fmt: skip
@options.state_dir
@options.terms
@options.issuer
@options.ca_key
@options.ca_file
def issue(
    name: str,
    life: str,
    out: str,
    password_file: str,
    state_dir: str,
    trust_domain: str,
    permit_dns: tuple[str, ...],
    ca_cert: str,
    ca_key: str,
    ca_file: str,
    *,
    p12: bool,
) -> None:
    """
    Make a client's key and certificate, for who is no container.

    It says the DNS name NAME and the SPIFFE ID spiffe://TRUST-DOMAIN/client/NAME, which byfahrer.allow can name. The
    key is in what is printed, and nowhere else.

    \b
    Examples:
      byfahrer ca issue --name laptop --out laptop.pem
      curl --cacert root.pem --cert laptop.pem https://localhost:8081/
      byfahrer ca issue --name phone --life 30d --p12 --out phone.p12
    """
    lifetime = _life(life)
    if password_file and not p12:
        raise click.UsageError("--password-file is for --p12")
    if p12 and out == STDOUT and sys.stdout.isatty():
        raise click.UsageError("--p12 is no text: name a file with --out")
    folder = options.state_folder(state_dir)
    chosen = settings.authority(run_dir=settings.RUN_DIR, state_dir=str(folder), trust_domain=trust_domain,
                                permit_dns=permit_dns, ca_cert=ca_cert, ca_key=ca_key, ca_file=ca_file)  # fmt: skip
    issuer = issuers(chosen, create=False).issuer()
    password = _password(password_file) if p12 else b""
    now = utc()
    try:
        pair = clients.issue(issuer, name, lifetime, now)
    except ValueError:
        accepts = "a DNS name in lower case, such as laptop or anna.example.org"
        raise settings.SettingError(f"--name={name!r}: expected {accepts}") from None
    with _written(out) as file:
        clients.note(StateFolder(folder), pair, issuer, now)
        file.write(pair.p12(password) if p12 else pair.pem)
    end = f"until {moment(pair.issued.not_after)}"
    click.echo(f"{pair.issued.names.spiffe or name}, {end}{f', in {out}' if out != STDOUT else ''}", err=True)


@ca.command("ls")
@click.option("--json", "as_json", is_flag=True, help="A list of objects instead of a table.")
@options.state_dir
def list_(state_dir: str, *, as_json: bool) -> None:
    """
    List who holds which certificate, until when, and what is wrong with it.

    A sidecar that cannot renew its certificate is shown as failing, with the reason, long before it ends.

    \b
    Examples:
      byfahrer ca ls
      byfahrer ca ls --json | jq -r '.[] | select(.state | startswith("failing")) | .target'
    """
    folder, now = StateFolder(options.state_folder(state_dir)), utc()
    found = [each for name in (ledger.FILE, ledger.CLIENTS) for each in ledger.read(folder, name)]
    found.sort(key=lambda each: (each.target, each.issued))
    if as_json:
        click.echo(json.dumps([asdict(each) | {"state": each.state(now)} for each in found], indent=2))
    else:
        click.echo(aligned([HEADINGS, *(_cells(each, now) for each in found)]))


@ca.command()
@click.option(
    "--overlap", default=f"{OVERLAP.days}d", show_default=True, metavar="DURATION",
    help="How long the present root is still believed; 0 for not at all.",
)  # fmt: skip
@options.state_dir
@options.terms
@click.option("--ca-cert", default="", envvar="BYFAHRER_CA_CERT", hidden=True)
@click.option("--ca-file", default="", envvar="BYFAHRER_CA_FILE", hidden=True)
def rotate(
    overlap: str, state_dir: str, trust_domain: str, permit_dns: tuple[str, ...], ca_cert: str, ca_file: str
) -> None:
    """
    Make a new root; a running byfahrer uses it at once, and sidecars get new certificates within seconds.

    Until the overlap ends, who knows either root believes every sidecar: that is the time to hand out the new one.
    With --overlap 0, as after a theft, whoever knows the old one only is locked out at once. What `byfahrer ca issue`
    made ends with the root that signed it: make it anew. Stores that were told of an old root go on believing it.

    Other terms (--trust-domain, --permit-dns) are for the new root; without them it has those of the present one.

    \b
    Examples:
      byfahrer ca rotate
      byfahrer ca rotate --overlap 30d
      byfahrer ca root --current > new-root.pem
    """
    if ca_file:
        raise settings.SettingError(f"--ca-file={ca_file!r}: all nodes share it: byfahrer swarm rotate-ca")
    if ca_cert:
        instead = "put a new chain and its key into the files of --ca-cert and --ca-key, which are read anew"
        raise settings.SettingError(f"--ca-cert={ca_cert!r}: it is not ours to rotate: {instead}")
    folder = options.state_folder(state_dir)
    chosen = settings.authority(
        run_dir=settings.RUN_DIR, state_dir=str(folder), trust_domain=trust_domain, permit_dns=permit_dns
    )
    terms = Terms(trust_domain=chosen.trust_domain, permit_dns=chosen.permit_dns)
    lasts = duration_of(overlap)
    made = OwnRoot(StateFolder(folder), create=False).rotate(lasts, terms if terms.constrained else None)
    click.echo(f"new root, SHA-256 {fingerprint(made.roots[0])}")
    if len(made.roots) == 1:
        click.echo("none before it is believed any more")
        return
    end = moment(utc() + lasts)
    click.echo(f"the one before is believed until {end}: hand out the new one by then")
    click.echo("what `byfahrer ca issue` made ends with it: issue that anew")
    if not made.crossed:
        click.echo("who knows the one before only does not believe new certificates: it is limited to other names")


def _life(text: str) -> dt.timedelta:
    try:
        return dt.timedelta(seconds=spec.leaf_lifetime(text))
    except ValueError:
        raise settings.SettingError(f"--life={text!r}: expected a duration from 1m to 90d, such as 30d") from None


def duration_of(text: str) -> dt.timedelta:
    days = re.fullmatch(r"(\d{1,3})d", text, re.ASCII)
    try:
        seconds = 0.0 if text == "0" else int(days[1]) * 86400.0 if days else parse_duration(text)
    except ValueError:
        seconds = -1.0
    # A bare number would be seconds: who means days by it locks out everybody, and there is no way back.
    if not 0 <= seconds <= LONGEST_OVERLAP or (text != "0" and not text[-1:].isalpha()):
        raise settings.SettingError(f"--overlap={text!r}: expected a duration up to 365d, such as 7d, or 0")
    return dt.timedelta(seconds=seconds)


def _terminal() -> bool:
    return sys.stdin.isatty()


def _password(file: str) -> bytes:
    """The password for PKCS#12, which needs one: without, it is no protection, and some programs refuse it."""
    if not file and _terminal():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)).encode()
    if not file:
        line = sys.stdin.readline().rstrip("\r\n")
        if not line:
            accepts = "a password from a terminal (docker exec -it), as the first line of stdin, or by --password-file"
            raise settings.SettingError(f"--p12: expected {accepts}")
        return line.encode()
    try:
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise settings.SettingError(f"--password-file={file!r}: {error.strerror}") from None
    if not lines or not lines[0]:
        raise settings.SettingError(f"--password-file={file!r}: expected a password in its first line")
    return lines[0]


@contextmanager
def _written(out: str) -> Iterator[BinaryIO]:
    """Where the key goes: stdout, or a new file that is for its owner only, and gone again if anything fails."""
    if out == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    try:
        file = os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        advice = "; it may hold a key: move it away first" if isinstance(error, FileExistsError) else ""
        raise settings.SettingError(f"--out={out!r}: {error.strerror}{advice}") from None
    try:
        with file:
            yield file
    except BaseException as error:
        with suppress(OSError):
            Path(out).unlink()
        if isinstance(error, OSError):
            raise settings.SettingError(f"--out={out!r}: {error.strerror}") from None
        raise


def _cells(holder: Holder, now: dt.datetime) -> tuple[str, ...]:
    return (
        one_line(holder.target, 100),
        one_line(", ".join(holder.names) or "-", MOST_SHOWN),
        one_line(holder.spiffe or "-", 200),
        _when(holder.issued, now),
        _when(holder.not_after, now),
        _when(holder.renews, now),
        one_line(holder.state(now)),
    )


def _when(text: str, now: dt.datetime) -> str:
    """`in 11h`, `3m ago`."""
    if not text:
        return "-"
    seconds = (dt.datetime.fromisoformat(text) - now).total_seconds()
    shown = f"{round(abs(seconds))}s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if abs(seconds) >= 2 * size:
            shown = f"{int(abs(seconds) / size)}{unit}"
            break
    return f"in {shown}" if seconds > 0 else f"{shown} ago"
