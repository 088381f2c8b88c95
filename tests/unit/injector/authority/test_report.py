"""What a sidecar says of itself is read strictly, and shown in one line of a bounded length."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.authority.ledger import Holder
from byfahrer.authority.report import Report, ReportError
from lab.authority import NOW

FULL = {
    "source": "acme", "serial": "00AB", "sha256": "0A:0b", "not_after": "2026-12-01T01:00:00+01:00",
    "names": ["www.example", "spiffe://td/x"], "failing": "the server said no", "denied": {"expired": 2},
    "connections": 3, "requests": 4, "colour": "red", "phase": "serving", "ready": False, "fault": "no\nway",
    "bypass": ["0.0.0.0:8080"],
}  # fmt: skip


def test_a_report_is_read():
    assert Report.read(json.dumps(FULL).encode()) == Report(
        source="acme", serial="ab", sha256="0a0b", not_after="2026-12-01T00:00:00Z",
        names=("www.example", "spiffe://td/x"), failing="the server said no", denied={"expired": 2}, connections=3,
        requests=4, phase="serving", ready=False, fault="no\\nway", bypass=("0.0.0.0:8080",),
    )  # fmt: skip
    assert Report.read(b'{"source": "files"}') == Report(source="files")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "magic"}, "source: expected one of authority, files, acme, self-signed"),
        ({"source": 1}, "source: expected a string"),
        ({"serial": "xyz"}, "serial: expected hexadecimal digits"),
        ({"serial": "0" * 1000}, "serial: expected hexadecimal digits"),
        ({"not_after": "tomorrow"}, "not_after: expected a time such as"),
        ({"not_after": "2026-12-01T00:00:00"}, "not_after: expected a time such as"),
        ({"not_after": "0001-01-01T00:00:00+12:00"}, "not_after: expected a time such as"),
        ({"names": "www"}, "names: expected a list of strings"),
        ({"names": [1]}, "names: expected a list of strings"),
        ({"denied": []}, "denied: expected an object"),
        ({"denied": {"a": "b"}}, "denied: expected a count"),
        ({"denied": {"a": True}}, "denied: expected a count"),
        ({"connections": -1}, "connections: expected a count"),
        ({"requests": 2**63}, "requests: expected a count"),
        ({"failing": None}, "failing: expected a string"),
        ({"phase": 1}, "phase: expected a string"),
        ({"ready": 1}, "ready: expected true or false"),
        ({"fault": []}, "fault: expected a string"),
        ({"bypass": "0.0.0.0:80"}, "bypass: expected a list of strings"),
    ],
)
def test_what_is_wrong_is_named(change, said):
    with pytest.raises(ReportError, match=said):
        Report.read(json.dumps({**FULL, **change}).encode())


@pytest.mark.parametrize("year", ["0001", "0999", "9999"])
def test_a_time_of_any_year_can_be_read_back_from_the_ledger(year):
    said = Report.read(json.dumps({**FULL, "not_after": f"{year}-06-01T00:00:00Z"}).encode())

    assert said.not_after == f"{year}-06-01T00:00:00Z"
    assert said.told_by(Holder(target="www")).ended(NOW) is (year != "9999")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"1" * 5000, b"[" * 16000])
def test_what_is_no_object_is_refused(body):
    with pytest.raises(ReportError, match=r"^expected (a )?JSON"):
        Report.read(body)


def test_long_texts_and_many_names_are_cut():
    report = Report.read(
        json.dumps(
            {
                **FULL,
                "failing": "x\n" * 400,
                "bypass": ["b\n" * 400] * 90,
                "names": ["a"] * 1000,
                "denied": {f"{n}\n": 1 for n in range(1000)},
            }
        ).encode()
    )

    assert len(report.failing) < 700
    assert "\n" not in report.failing
    assert len(report.names) == 200
    assert len(report.bypass) == 8
    assert "\n" not in report.bypass[0]
    assert len(report.denied) == 50
    assert not any("\n" in reason for reason in report.denied)


def test_of_its_own_certificates_the_authority_knows_more_than_the_sidecar():
    holder = Holder(target="www", names=["www"], serial="1", not_after="2026-12-01T00:00:00Z", issuer="m")
    said = Report(source="authority", serial="2", names=("bank",), failing="x").told_by(holder)

    assert (said.serial, said.names, said.issuer, said.failing) == ("1", ["www"], "m", "x")


def test_no_sidecar_makes_forgotten_what_it_was_given():
    holder = Holder(target="www", names=["www"], serial="1", not_after="2026-12-01T00:00:00Z", issuer="m")
    said = Report(source="files", names=("bank", "spiffe://td/bank"), not_after="2099-01-01T00:00:00Z").told_by(holder)

    assert said == holder


def test_of_others_the_sidecar_is_believed():
    said = Report.read(json.dumps(FULL).encode()).told_by(Holder(target="www", names=["x"]))

    assert (said.source, said.serial, said.names, said.spiffe) == ("acme", "ab", ["www.example"], "spiffe://td/x")
    assert (said.issuer, said.lifetime, said.denied) == ("", 0, {"expired": 2})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


FIELDS = st.fixed_dictionaries({}, optional=dict.fromkeys(FULL, JSON)).map(lambda fields: json.dumps(fields).encode())


@settings(deadline=None)
@given(st.one_of(st.binary(), FIELDS))
def test_any_bytes_are_a_report_or_refused_in_one_line(body):
    said = ""
    try:
        Report.read(body).told_by(Holder(target="www"))
    except ReportError as error:
        said = str(error)

    assert "\n" not in said
