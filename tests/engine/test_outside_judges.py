"""sslyze, which is not ours, finds an injected sidecar as Mozilla's profile asks; `make audit` asks for more."""

from __future__ import annotations

import pytest

from lab import judges
from lab.trust import PORT, scene


@pytest.fixture(scope="module")
def stage(engine):
    with scene(engine) as made:
        made.begin()
        yield made


@pytest.fixture(scope="module")
def addresses(stage):
    """By profile."""
    return {each: stage.lab.address(stage.target(each, tls_profile=each)) for each in judges.PROFILES}


@pytest.fixture
def roots(stage, tmp_path):
    (tmp_path / "root.pem").write_text(stage.home.root())
    return tmp_path / "root.pem"


@pytest.mark.parametrize("profile", judges.PROFILES)
def test_it_complies_with_mozillas_profile(addresses, roots, profile):
    assert judges.ask_sslyze(addresses[profile], PORT, profile, roots)[0].counts == ()


def test_the_judge_is_one_who_can_say_no(addresses, roots):
    counts = judges.ask_sslyze(addresses["intermediate"], PORT, "modern", roots)[0].counts

    assert any("tls_versions" in each for each in counts)
