"""
Two judges of TLS servers from outside the project, sslyze and testssl.sh, and what of their findings counts.

sslyze compares with Mozilla's profile and says yes or no. testssl.sh lists findings, each with a severity: anything
above LOW counts, and a WARN too, which is a check that could not be made; but for those in `EXCUSED`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AUDIT = Path(__file__).parents[2] / ".cache" / "audit"
"""What tools/audit.sh makes: sslyze in a virtual environment of its own, and the full outputs."""

PROFILES = ("intermediate", "modern")
HARMLESS = {"OK", "INFO", "LOW", "DEBUG"}
SHORT_LIFE = "certificates live a day here and renew themselves; 30 and 60 days are for those renewed by hand"
_UNMADE = "sessionresumption_ticket"
EXCUSED = {
    ("cert_expirationStatus", "HIGH"): SHORT_LIFE,
    ("cert_expirationStatus", "MEDIUM"): SHORT_LIFE,
    ("cert_notAfter", "HIGH"): SHORT_LIFE,
    ("cert_notAfter", "MEDIUM"): SHORT_LIFE,
    (
        "cert_revocation",
        "HIGH",
    ): "a private authority without CRL or OCSP: certificates run out before a list would tell",
    ("engine_problem", "WARN"): "says that the OpenSSL of this machine, not the server, knows no GOST ciphers",
    (_UNMADE, "WARN"): "its client at times hangs up before a ticket is there to be tried",
    ("cipher_order", "HIGH"): "Mozilla's profiles leave the order to the client, all ciphers being strong "
    "(testssl.sh's issue 1311)",
}
"""By identifier and severity, with the reason. An expired certificate is CRITICAL, and is not excused."""

LATEST = {"scanTime", "cert_chain_of_trust", "ROBOT", "secure_renego"}
"""Some of what every complete run finds; without them a run ended early, and judged nothing."""


@dataclass(frozen=True)
class Verdict:
    judge: str
    counts: tuple[str, ...]
    """Findings that count, a line each; none means passed."""
    excused: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.counts


def weigh(findings: list[dict[str, Any]], code: int = 0) -> Verdict:
    """testssl.sh's list of findings, as in its JSON file; `code`: its exit code, how many checks it could not make."""
    counts, excused = [], []
    unmade = 0
    for each in findings:
        identifier, severity = each["id"], each["severity"]
        if severity in HARMLESS:
            continue
        line = f"{identifier}: {severity}: {each['finding']}"
        (excused if (identifier, severity) in EXCUSED else counts).append(line)
        unmade += identifier == _UNMADE
    missing = LATEST - {each["id"] for each in findings}
    if missing:
        counts.append(f"incomplete: nothing on {', '.join(sorted(missing))}")
    if code > unmade and not counts:
        counts.append(f"exit code {code}")
    return Verdict("testssl.sh", tuple(counts), tuple(excused))


def ask_sslyze(address: str, port: int, profile: str, ca: Path, name: str = "localhost") -> tuple[Verdict, str]:
    """Whether the server is what Mozilla's `profile` says; and the full output."""
    done = subprocess.run(
        (AUDIT / "venv/bin/python", "-m", "sslyze", f"--mozilla_config={profile}", f"--certinfo_ca_file={ca}",
         f"{name}:{port}{{{address}}}"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return compliance(done.returncode, done.stdout), done.stdout + done.stderr


def compliance(code: int, output: str) -> Verdict:
    """sslyze's answer: its exit code, and the word for it."""
    conclusion = output.partition("COMPLIANCE AGAINST TLS CONFIGURATION")[2]
    if code == 0 and "OK - Compliant." in conclusion:
        return Verdict("sslyze", ())
    lines = [line.strip() for line in conclusion.splitlines() if "FAILED" in line or line.lstrip().startswith("*")]
    return Verdict("sslyze", tuple(lines) or (f"exit code {code} without a conclusion",))


def ask_testssl(address: str, port: int, ca: Path, output: Path, name: str = "localhost") -> tuple[Verdict, str]:
    """What of testssl.sh's findings counts; and the full output. `output`: where to leave its JSON."""
    output.unlink(missing_ok=True)  # it would ask, and refuse
    done = subprocess.run(
        ("testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", address,
         "--add-ca", ca, "--jsonfile", output, "-p", "-s", "-f", "-P", "-S", "-U", f"https://{name}:{port}"),
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        verdict = weigh(json.loads(output.read_text()), done.returncode)
    except (OSError, ValueError):
        verdict = Verdict("testssl.sh", (f"exit code {done.returncode} without findings",))
    return verdict, done.stdout + done.stderr
