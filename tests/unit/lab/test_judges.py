"""What of the outside judges' words counts; the words are those of sslyze 6.3.1 and testssl.sh 3.0.8."""

from __future__ import annotations

import pytest

from lab.judges import EXCUSED, compliance, weigh


def finding(identifier: str, severity: str, text: str = "") -> dict[str, str]:
    return {"id": identifier, "ip": "localhost/127.0.0.1", "port": "8443", "severity": severity, "finding": text}


WHOLE = [
    finding("TLS1_3", "OK", "offered with final"),
    finding("ROBOT", "OK", "not vulnerable, no RSA key transport cipher"),
    finding("secure_renego", "OK", "supported"),
    finding("cert_chain_of_trust", "OK", "passed."),
    finding("cert_keySize", "LOW"),
    finding("scanTime", "INFO", "27"),
]


def test_nothing_above_low_passes() -> None:
    verdict = weigh(WHOLE)

    assert verdict.passed
    assert (verdict.counts, verdict.excused) == ((), ())


@pytest.mark.parametrize("severity", ["MEDIUM", "HIGH", "CRITICAL", "FATAL", "WARN"])
def test_anything_else_counts(severity: str) -> None:
    verdict = weigh([*WHOLE, finding("heartbleed", severity, "VULNERABLE")])

    assert not verdict.passed
    assert verdict.counts == (f"heartbleed: {severity}: VULNERABLE",)


def test_what_a_private_authority_and_a_short_life_bring_is_excused() -> None:
    verdict = weigh(
        [
            *WHOLE,
            finding("cert_expirationStatus", "HIGH", "expires < 30 days (0)"),
            finding("cert_notAfter", "HIGH", "2026-11-25 21:53"),
            finding("cert_revocation", "HIGH", "Neither CRL nor OCSP URI provided"),
        ]
    )

    assert verdict.passed
    assert [line.split(":")[0] for line in verdict.excused] == [
        "cert_expirationStatus", "cert_notAfter", "cert_revocation",
    ]  # fmt: skip


def test_an_excuse_is_for_one_severity_and_nothing_critical_is_excused() -> None:
    assert weigh([*WHOLE, finding("cert_expirationStatus", "CRITICAL", "expired")]).counts
    assert {severity for _, severity in EXCUSED} == {"WARN", "MEDIUM", "HIGH"}
    assert all(EXCUSED.values())


def test_a_check_that_could_not_be_made_counts_but_for_two_that_are_about_the_judge_itself() -> None:
    assert weigh([*WHOLE, finding("sessionresumption_ticket", "WARN", "check failed")]).passed
    assert weigh([*WHOLE, finding("engine_problem", "WARN", "No engine or GOST support via engine")]).passed
    assert weigh([*WHOLE, finding("scanTime", "WARN", "Scan interrupted")]).counts


def test_an_exit_code_counts_unless_an_excused_check_explains_it() -> None:
    ticket = finding("sessionresumption_ticket", "WARN", "check failed")
    assert weigh([*WHOLE, ticket], 1).passed
    assert weigh([*WHOLE, ticket], 2).counts == ("exit code 2",)
    assert weigh(WHOLE, 1).counts == ("exit code 1",)


@pytest.mark.parametrize("without", ["scanTime", "cert_chain_of_trust", "ROBOT"])
def test_a_run_that_ended_early_did_not_pass(without: str) -> None:
    verdict = weigh([each for each in WHOLE if each["id"] != without])

    assert verdict.counts == (f"incomplete: nothing on {without}",)


def test_a_chain_that_is_not_trusted_counts() -> None:
    assert weigh([*WHOLE, finding("cert_chain_of_trust", "CRITICAL", "failed (self signed).")]).counts


COMPLIANT = """
 COMPLIANCE AGAINST TLS CONFIGURATION
 ------------------------------------

    Checking results against Mozilla's "modern" configuration. See https://ssl-config.mozilla.org/ for more details.

    localhost:8443: OK - Compliant.
"""
FAILED = COMPLIANT.replace(
    "OK - Compliant.",
    'FAILED - Not compliant.\n        * tls_curves: TLS curves {"X448"} are supported, but should be rejected.',
)


def test_compliant_passes_with_exit_code_0_alone() -> None:
    assert compliance(0, COMPLIANT).passed
    assert not compliance(1, COMPLIANT).passed
    assert not compliance(0, "OK - Compliant.").passed


def test_what_is_not_compliant_is_told() -> None:
    assert compliance(1, FAILED).counts == (
        "localhost:8443: FAILED - Not compliant.",
        '* tls_curves: TLS curves {"X448"} are supported, but should be rejected.',
    )


def test_no_conclusion_is_none() -> None:
    assert compliance(0, " CHECKING CONNECTIVITY TO SERVER(S)").counts == ("exit code 0 without a conclusion",)
