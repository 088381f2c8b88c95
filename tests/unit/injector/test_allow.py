"""Only images that the operator named may be sidecars."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.allow import ImagePattern, Reference
from byfahrer.settings import ALLOW_IMAGES

DEFAULT = [ImagePattern(text) for text in ALLOW_IMAGES]


def allowed(image, patterns=DEFAULT):
    return any(pattern.allows(image) for pattern in patterns)


@pytest.mark.parametrize(
    "image",
    [
        "sslterm", "sslterm:1.2", "sslterm-debug", "gosslterm", "qnib/gosslterm:latest", "docker.io/sslterm",
        "docker.io/library/sslterm:3", "index.docker.io/library/sslterm", "docker.io/qnib/gosslterm",
        "sslterm@sha256:" + "a" * 64, "sslterm:1@sha256:" + "a" * 64,
    ],
)  # fmt: skip
def test_the_default_allows_our_own_images_in_every_spelling(image):
    assert allowed(image)


@pytest.mark.parametrize(
    "image",
    [
        "sslterm.evil.com/x", "sslterm.evil.com/sslterm", "evil.com/sslterm", "evil.com/library/sslterm",
        "localhost/sslterm", "localhost:5000/sslterm", "sslterm:5000/x", "Sslterm/sslterm", "SSLTERM/x",
        "sslterm/evil", "evil/sslterm", "evil/gosslterm", "qnib/evil", "qnib/gosslterm/evil", "docker.io/evil/sslterm",
        "docker.io.evil.com/library/sslterm", "xsslterm", "alpine", "", ":", "@", "/", "sslterm/", "/sslterm",
        "sha256:" + "a" * 64, "a" * 64, "sslterm\nalpine", "../sslterm",
        "sslterm:x\n", "sslterm:x y", "sslterm:", "sslterm:-x", "sslterm:" + "x" * 129, "sslterm:\u00e9",
        "sslterm:\u0661",
        "sslterm@sha256:x", "sslterm@sha256:" + "A" * 64, "sslterm@", "sslterm-\u00e9", "sslterm--", "sslterm..x",
    ],
)  # fmt: skip
def test_the_default_allows_nothing_that_only_looks_alike(image):
    assert not allowed(image)


@pytest.mark.parametrize(
    ("pattern", "image", "expected"),
    [
        ("registry.example.com/tls/*", "registry.example.com/tls/sslterm:2", True),
        ("registry.example.com/tls/*", "registry.example.com/tls/deep/sslterm", False),
        ("registry.example.com/tls/*", "registry.example.com.evil.com/tls/sslterm", False),
        ("registry.example.com:5000/*", "registry.example.com:5000/sslterm", True),
        ("registry.example.com:5000/*", "registry.example.com/sslterm", False),
        ("*", "anything:1", True),
        ("*", "some/thing", False),
        ("*", "sha256:" + "a" * 64, False),
        ("*", "a" * 64, False),
        ("*/*", "some/thing", True),
        ("*/*", "evil.com/thing", False),
        ("sslterm:1.*", "sslterm:1.4", True),
        ("sslterm:1.*", "sslterm:2.0", False),
        ("sslterm:1.*", "sslterm", False),
        ("sslterm:latest", "sslterm", True),
        ("sslterm:latest", "sslterm@sha256:" + "b" * 64, False),
        ("sslterm@sha256:" + "a" * 64, "sslterm@sha256:" + "a" * 64, True),
        ("sslterm@sha256:" + "a" * 64, "sslterm@sha256:" + "b" * 64, False),
        ("sslterm@sha256:" + "a" * 64, "sslterm", False),
        ("ssl?erm", "sslterm", False),
        ("ssl.erm", "sslterm", False),
    ],
)
def test_a_pattern_stays_within_its_registry_its_path_segment_and_its_tag(pattern, image, expected):
    assert ImagePattern(pattern).allows(image) is expected


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_nonsense_is_answered_too(pattern, image):
    assert ImagePattern(pattern).allows(image) in (True, False)


@settings(deadline=None)
@given(st.text(alphabet="abc./:@-*", max_size=20))
def test_what_the_default_allows_is_on_docker_hub(image):
    if allowed(image):
        assert Reference.parse(image).repository.startswith("docker.io/")
