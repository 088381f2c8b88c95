"""Labels may ask for more names and another lifetime; those of an image may not."""

import pytest

from byfahrer.authority.wish import Wish, parse_lifetime, read_wish
from byfahrer.model import Container, Status


def container(labels, inherited=()):
    return Container(
        id="c" * 64, name="www", image="app", status=Status.RUNNING, labels=labels, inherited=frozenset(inherited)
    )


def test_a_target_asks_by_its_own_labels_those_of_its_service_and_by_hand():
    labels = {"byfahrer.names": "A.example, b.example,,", "byfahrer.cert-lifetime": "1h"}
    asked = Wish(("a.example", "b.example"), 3600.0)

    assert read_wish(container(labels), {}) == asked
    assert read_wish(container({}), labels) == asked
    assert read_wish(container({}), {}, labels) == asked
    assert read_wish(container({"org.qnib.byfahrer.names": "c"}), labels).names == ("c",)
    assert read_wish(container({}), {}) == Wish()


def test_labels_of_the_image_are_no_wish():
    labels = {"byfahrer.names": "bank.internal", "byfahrer.cert-lifetime": "90d"}

    assert read_wish(container(labels, labels), {}) == Wish()


def test_a_lifetime_that_makes_no_sense_is_no_wish():
    assert read_wish(container({"byfahrer.cert-lifetime": "1s"}), {}) == Wish()


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m", 60), ("24h", 86400), ("90d", 90 * 86400), ("1d", 86400), ("1m30s", 90), ("3600", 3600)]
)
def test_lifetimes(text, seconds):
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "59s", "91d", "1y", "d", "-1d", "0d", "1.5d", "٣d", "9999d", "1d1h"])
def test_what_is_no_lifetime(text):
    with pytest.raises(ValueError):
        parse_lifetime(text)
