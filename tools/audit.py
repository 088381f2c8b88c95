"""Has sslyze and testssl.sh judge a sidecar, injected and from source, in both profiles; exits 1 if one objects."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import judges
from lab.engine import NoEngineError, reach
from lab.judges import AUDIT, EXCUSED, PROFILES, Verdict
from lab.private_ca import PrivateCa
from lab.sidecar import free_port, hello_backend, sidecar
from lab.trust import PORT, scene


@dataclass(frozen=True)
class Subject:
    address: str
    port: int
    roots: bytes
    """Whom to believe, in PEM."""


@contextmanager
def from_source(profile: str) -> Iterator[Subject]:
    """A process of this machine's Python and OpenSSL, with a pair of a private authority."""
    ca = PrivateCa.made()
    with tempfile.TemporaryDirectory() as folder, hello_backend() as backend:
        cert, key = ca.issue("localhost", "127.0.0.1").write(Path(folder))
        flags = (f"--frontend-addr=127.0.0.1:{free_port()}", f"--backend-addr=127.0.0.1:{backend}")
        with sidecar(*flags, f"--cert={cert}", f"--key={key}", f"--tls-profile={profile}") as running:
            yield Subject("127.0.0.1", running.port, ca.pem)


@contextmanager
def injected(profile: str) -> Iterator[Subject]:
    """A target on the engine, whose sidecar has the image's OpenSSL and a certificate of byfahrer's authority."""
    with closing(reach()) as api, scene(api, tell=False) as made:
        made.begin()
        www = made.target(tls_profile=profile)
        yield Subject(made.lab.address(www), PORT, made.home.root().encode())


KINDS = {"injected": injected, "source": from_source}


def judge(kind: str, profile: str) -> list[Verdict]:
    """Both judges, one after the other, on a sidecar of its own."""
    folder = AUDIT / f"{kind}-{profile}"
    folder.mkdir(parents=True, exist_ok=True)
    roots = folder / "roots.pem"
    verdicts = []
    with KINDS[kind](profile) as subject:
        roots.write_bytes(subject.roots)
        for verdict, output in (
            judges.ask_sslyze(subject.address, subject.port, profile, roots),
            judges.ask_testssl(subject.address, subject.port, roots, folder / "testssl.json"),
        ):
            (folder / f"{verdict.judge.removesuffix('.sh')}.txt").write_text(output)
            verdicts.append(verdict)
    return verdicts


def main() -> int:
    runs = [(kind, profile) for kind in KINDS for profile in PROFILES]
    try:
        with ThreadPoolExecutor(2) as two:
            results = list(two.map(lambda run: judge(*run), runs))
    except NoEngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for (kind, profile), verdicts in zip(runs, results, strict=True):
        for verdict in verdicts:
            word = "passed" if verdict.passed else "FAILED"
            print(f"{kind:10}{profile:14}{verdict.judge:12}{word}   {len(verdict.excused)} excused")
            for line in verdict.counts:
                print(f"    {line}")
    excused = {line.split(": ")[0] for verdicts in results for verdict in verdicts for line in verdict.excused}
    print("excused:", *(f"  {identifier}: {why}" for identifier, why in reasons(excused).items()), sep="\n")
    print("full outputs: .cache/audit/")
    return 0 if all(verdict.passed for verdicts in results for verdict in verdicts) else 1


def reasons(identifiers: set[str]) -> dict[str, str]:
    return {identifier: why for (identifier, _), why in EXCUSED.items() if identifier in identifiers}


if __name__ == "__main__":
    raise SystemExit(main())
