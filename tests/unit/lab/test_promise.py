"""The judge of the promise sees everything that is wrong, and nothing that is not."""

from dataclasses import replace

import pytest

from lab.promise import KINDS, NEVER, Seen, Wish, promise

T, S, X = "a" * 64, "b" * 64, "c" * 64
TARGET = Seen(
    id=T,
    name="www",
    status="running",
    labels={},
    joined="default",
    namespace="net:1",
    image_id="app",
    user="",
    mode=None,
)
SIDECAR = replace(
    TARGET, id=S, name="www-proxy", labels={"byfahrer.target": T}, joined=f"container:{T}", image_id="i", user="u"
)


def wrong(*seen, wish=KINDS["asks"].wish):
    return promise(seen, {T: wish}, "i", "u")


def test_it_is_content():
    assert wrong(TARGET, SIDECAR) == []
    assert wrong(replace(TARGET, status="paused"), SIDECAR) == []
    assert wrong() == []
    assert wrong(replace(TARGET, status="exited", namespace="")) == []
    assert wrong(TARGET, wish=NEVER) == []
    assert wrong(TARGET, wish=Wish(perhaps=True)) == []


def test_a_name_that_a_stranger_has_cannot_be_had():
    stranger = replace(TARGET, id=X, name="www-proxy")

    assert wrong(TARGET, stranger) == []
    assert wrong(TARGET, stranger, replace(SIDECAR, name="other")) == []


def test_who_only_says_that_it_is_a_sidecar_is_none():
    claims = replace(SIDECAR, id=X, name="x", joined="default")

    assert wrong(TARGET, SIDECAR, claims) == []
    assert wrong(TARGET, claims) == ["www has no sidecar"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"status": "exited"}, "www-proxy is exited"),
        ({"status": "paused"}, "www-proxy is paused"),
        ({"namespace": "net:2"}, "www-proxy is not where its target is"),
        ({"namespace": ""}, "www-proxy is not where its target is"),
        ({"unhealthy": True}, "www-proxy is unhealthy"),
        ({"mode": "tcp"}, "www-proxy has another mode"),
        ({"user": "0"}, "www-proxy has another user"),
        ({"image_id": "old"}, "www-proxy is of another image"),
        ({"name": "www-proxy-next"}, "www-proxy-next is not named www-proxy"),
    ],
)
def test_it_sees_what_a_sidecar_is_not(change, text):
    assert wrong(TARGET, replace(SIDECAR, **change)) == [text]


def test_it_sees_what_should_not_be():
    assert wrong(TARGET) == ["www has no sidecar"]
    assert wrong(TARGET, SIDECAR, wish=NEVER) == ["www-proxy is nobody's wish"]
    assert wrong(SIDECAR) == ["www-proxy has no running target"]
    assert wrong(replace(TARGET, status="exited"), SIDECAR) == ["www-proxy has no running target"]
    two = wrong(TARGET, SIDECAR, replace(SIDECAR, id=X, name="www-proxy-next"))
    assert two == ["www has 2 sidecars: www-proxy, www-proxy-next"]
