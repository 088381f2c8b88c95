"""The operator's settings: read from what people write, refused in one line."""

import pytest

from byfahrer import settings


def test_lists_may_be_repeated_or_written_with_commas():
    made = settings.policy(allow_image=("a, b", "c"), only_label=("k=v,l", "m="))

    assert [str(pattern) for pattern in made.allow_images] == ["a", "b", "c"]
    assert made.only_labels == (("k", "v"), ("l", None), ("m", ""))


@pytest.mark.parametrize(
    ("text", "size"), [("32m", 32 << 20), ("64MB", 64 << 20), ("1g", 1 << 30), ("67108864", 64 << 20)]
)
def test_memory_is_a_size(text, size):
    assert settings.policy(sidecar_memory=text).sidecar_memory == size


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sidecar_memory": "31m"}, "--sidecar-memory='31m': expected a size of at least 32m"),
        ({"sidecar_memory": "lots"}, "--sidecar-memory='lots': expected"),
        ({"sidecar_memory": ""}, "--sidecar-memory='': expected"),
        ({"sidecar_user": "a b"}, "--sidecar-user='a b': expected"),
        ({"sidecar_user": ""}, "--sidecar-user='': expected"),
        ({"only_label": ("=v",)}, "--only-label='=v': expected key=value"),
    ],
)
def test_nonsense_is_refused_in_one_line(given, says):
    with pytest.raises(settings.SettingError) as caught:
        settings.policy(**given)

    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1m30s", 90), ("5", 5)])
def test_the_resync_is_a_duration(text, seconds):
    assert settings.resync(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "500ms", "2h", "-1s"])
def test_a_resync_that_makes_no_sense_is_refused(text):
    with pytest.raises(settings.SettingError, match="--resync="):
        settings.resync(text)


ID = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        (f"12:pids:/docker/{ID}\n0::/\n", "", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        ("0::/\n", f"1 2 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw\n", ID),
        (f"3:cpu:/docker/{ID}\n", f"1 2 8:1 /var/lib/docker/containers/{OTHER}/hostname /etc/hostname rw\n", ID),
        ("0::/init.scope\n", "1 2 8:1 / / rw\n", ""),
        ("", "", ""),
    ],
)
def test_the_own_container_is_known(cgroup, mountinfo, expected):
    assert settings.own_container({"cgroup": cgroup, "mountinfo": mountinfo}) == expected
    assert settings.own_container({}) == ""
