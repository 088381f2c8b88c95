"""Labels may ask for more names and another lifetime; those of an image may not."""

from byfahrer.authority.wish import Wish, read_wish
from byfahrer.model import Container, Status


def container(labels, inherited=()):
    return Container(
        id="c" * 64, name="www", image="app", status=Status.RUNNING, labels=labels, inherited=frozenset(inherited)
    )


def test_a_target_asks_by_its_own_labels_those_of_its_service_and_by_hand():
    labels = {"byfahrer.names": "A.example, b.example,,", "byfahrer.leaf-lifetime": "1h"}
    asked = Wish(("a.example", "b.example"), 3600.0)

    assert read_wish(container(labels), {}) == asked
    assert read_wish(container({}), labels) == asked
    assert read_wish(container({}), {}, labels) == asked
    assert read_wish(container({"org.qnib.byfahrer.names": "c"}), labels).names == ("c",)
    assert read_wish(container({}), {}) == Wish()


def test_labels_of_the_image_are_no_wish():
    labels = {"byfahrer.names": "bank.internal", "byfahrer.leaf-lifetime": "90d"}

    assert read_wish(container(labels, labels), {}) == Wish()


def test_a_service_that_the_image_names_gives_no_wish():
    service = {"byfahrer.names": "bank.internal", "byfahrer.leaf-lifetime": "90d"}
    carried = {"com.docker.swarm.service.id": "s" * 25}

    assert read_wish(container(carried), service) == Wish(("bank.internal",), 90 * 86400.0)
    assert read_wish(container(carried, carried), service) == Wish()


def test_what_makes_no_sense_is_no_wish_and_leaves_the_other_one():
    assert read_wish(container({"byfahrer.leaf-lifetime": "1s", "byfahrer.names": "a"}), {}) == Wish(("a",))
    assert read_wish(container({"byfahrer.leaf-lifetime": "1h", "byfahrer.names": "a b"}), {}) == Wish((), 3600.0)
