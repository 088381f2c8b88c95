"""sslyze, which is not ours, finds the sidecar in its image as Mozilla's profile asks; `make audit` asks for more."""

from __future__ import annotations

import pytest

from lab import judges
from lab.engine import audited
from lab.private_ca import PrivateCa


@pytest.mark.parametrize("profile", judges.PROFILES)
def test_the_image_complies_with_mozillas_profile(lab, tmp_path, profile):
    ca = PrivateCa.made()
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    address, port = audited(lab, profile, *ca.issue("localhost").write(tmp_path))

    assert judges.ask_sslyze(address, port, profile, tmp_path / "ca.pem")[0].counts == ()


def test_the_judge_is_one_who_can_say_no(lab, tmp_path):
    ca = PrivateCa.made()
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    address, port = audited(lab, "intermediate", *ca.issue("localhost").write(tmp_path))

    assert any(
        "tls_versions" in each for each in judges.ask_sslyze(address, port, "modern", tmp_path / "ca.pem")[0].counts
    )
