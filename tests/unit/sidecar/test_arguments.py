"""Every spelling of a flag that Go's `flag` package took comes out as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.arguments import as_flags, canonical


@pytest.mark.parametrize(
    "argv", [["-cert", "/c"], ["-cert=/c"], ["--cert", "/c"], ["--cert=/c"], ["-c", "/c"], ["-c=/c"], ["--c=/c"]]
)
def test_one_dash_or_two_short_or_long_space_or_equals(argv):
    assert canonical(argv) == ["--cert=/c"]


@pytest.mark.parametrize("program", ["gosslterm", "/usr/local/bin/gosslterm", "sslterm", "/usr/bin/sslterm"])
def test_a_program_name_in_first_place_is_dropped(program):
    assert canonical([program, "-k", "x"]) == ["--key=x"]
    assert canonical(["-k", program]) == [f"--key={program}"]


def test_help_and_version_in_the_old_spellings():
    assert canonical(["-help", "-h", "-version", "-v"]) == ["--help", "--help", "--version", "--version"]


def test_what_is_unknown_or_lacks_a_value_stays_as_it_is():
    assert canonical(["check", "--nonsense=1", "-x", "--cert"]) == ["check", "--nonsense=1", "-x", "--cert"]


def test_a_value_may_look_like_anything():
    assert canonical(["--cert", "-k", "--key", "a=b\nc"]) == ["--cert=-k", "--key=a=b\nc"]


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-c", "--cert", "-cert=", "check", "--mode=tcp"])))
def test_nothing_is_lost_and_a_second_pass_changes_nothing(argv):
    once = canonical(argv)

    assert canonical(once) == once or once[:1] in (["gosslterm"], ["sslterm"]) or "/" in "".join(once[:1])


def test_flags_by_name_and_none_for_anything_else():
    assert as_flags(["--cert=/a=b", "--mode=tcp"]) == {"cert": "/a=b", "mode": "tcp"}
    assert as_flags([]) == {}
    for other in (["--help"], ["check"], ["--nonsense=1"], ["--cert"]):
        assert as_flags(other) is None
