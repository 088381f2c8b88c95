"""Has sslyze and testssl.sh judge a sidecar, in its image and from source, in both profiles; exits 1 if one objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import judges
from lab.engine import Lab, NoEngineError, audited, reach
from lab.judges import AUDIT, EXCUSED, PROFILES, Verdict
from lab.private_ca import PrivateCa
from lab.sidecar import free_port, hello_backend, sidecar


@contextmanager
def from_source(profile: str, cert: Path, key: Path) -> Iterator[tuple[str, int]]:
    """A process of this machine's Python and OpenSSL; its address and port."""
    flags = (f"--frontend-addr=127.0.0.1:{free_port()}", f"--cert={cert}", f"--key={key}", f"--tls-profile={profile}")
    with hello_backend() as backend, sidecar(*flags, f"--backend-addr=127.0.0.1:{backend}") as running:
        yield "127.0.0.1", running.port


@contextmanager
def from_image(profile: str, cert: Path, key: Path) -> Iterator[tuple[str, int]]:
    """Beside a target on the engine; the target's address, and the port."""
    api = reach()
    lab = Lab(api)
    try:
        yield audited(lab, profile, cert, key)
    finally:
        lab.clean()
        api.close()


KINDS = {"image": from_image, "source": from_source}


def judge(kind: str, profile: str) -> list[Verdict]:
    """Both judges, one after the other, on a sidecar of its own."""
    name = f"{kind}-{profile}"
    ca = PrivateCa.made()
    (AUDIT / name).mkdir(parents=True, exist_ok=True)
    root = AUDIT / name / "ca.pem"
    root.write_bytes(ca.pem)
    cert, key = ca.issue("localhost", "127.0.0.1").write(AUDIT / name)
    verdicts = []
    with KINDS[kind](profile, cert, key) as (address, port):
        for verdict, output in (
            judges.ask_sslyze(address, port, profile, root),
            judges.ask_testssl(address, port, root, AUDIT / name / "testssl.json"),
        ):
            (AUDIT / name / f"{verdict.judge.removesuffix('.sh')}.txt").write_text(output)
            verdicts.append(verdict)
    key.unlink()
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
            print(f"{kind:8}{profile:14}{verdict.judge:12}{word}   {len(verdict.excused)} excused")
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
