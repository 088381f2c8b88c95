"""A target has the names by which others on its networks find it, and one SPIFFE ID."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer.authority.names import (
    MOST,
    Names,
    client_names,
    is_dns_name,
    is_trust_domain,
    names_of,
    spiffe_id,
)
from byfahrer.model import Container, Network, Status

TD = "byfahrer.internal"
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
SWARM = {
    "com.docker.swarm.service.name": "shop_web",
    "com.docker.swarm.task.name": "shop_web.1.x7k2",
    "com.docker.stack.namespace": "shop",
}


def container(name="www", **fields):
    return Container(id="c" * 64, name=name, image="app", status=Status.RUNNING, pid=1, **fields)


def test_a_plain_container_is_called_by_its_name_hostname_aliases_and_addresses():
    target = container(
        hostname="ab12",
        networks=(
            Network(name="front", aliases=("ab12", "api"), addresses=("172.18.0.2", "fd00::2")),
            Network(name="back", addresses=("172.19.0.2",)),
        ),
    )

    assert names_of(target, TD) == Names(
        dns=("localhost", "www", "ab12", "api", "www.front", "ab12.front", "api.front", "www.back"),
        addresses=("172.18.0.2", "fd00::2", "172.19.0.2", "127.0.0.1", "::1"),
        spiffe="spiffe://byfahrer.internal/ns/default/svc/www",
    )


def test_a_compose_service_is_called_by_its_service_too():
    names = names_of(container("shop-web-1", labels=COMPOSE), TD)

    assert {"shop-web-1", "web"} < set(names.dns)
    assert names.spiffe == "spiffe://byfahrer.internal/ns/shop/svc/web"


def test_a_swarm_task_is_called_by_its_service_task_and_stack():
    names = names_of(container("shop_web.1.x7k2", labels=SWARM, networks=(Network(name="shop_net"),)), TD)

    assert {"shop_web", "shop_web.1.x7k2", "tasks.shop_web", "web", "tasks.web"} < set(names.dns)
    assert {"web.shop_net", "tasks.web.shop_net", "shop_web.shop_net", "tasks.shop_web.shop_net"} < set(names.dns)
    assert names.spiffe == "spiffe://byfahrer.internal/ns/shop/svc/web"


def test_a_swarm_service_without_a_stack_keeps_its_name():
    labels = {"com.docker.swarm.service.name": "shop_web"}

    assert spiffe_id(container(labels=labels), TD) == "spiffe://byfahrer.internal/ns/default/svc/shop_web"


def test_names_given_by_the_operator_are_taken_addresses_and_wildcards_too():
    names = names_of(container(), TD, ("shop.example", " *.shop.example", "10.1.2.3", "*", "*.example", "a b", ""))

    assert names.dns == ("localhost", "shop.example", "*.shop.example", "www")
    assert names.addresses == ("10.1.2.3", "127.0.0.1", "::1")


def test_labels_of_the_image_prove_nothing():
    target = container(labels={**COMPOSE, **SWARM}, inherited=frozenset({*COMPOSE, *SWARM}))

    assert names_of(target, TD) == names_of(container(), TD)


def test_an_inherited_project_does_not_lend_its_name_to_a_service_of_ones_own():
    target = container(labels=COMPOSE, inherited=frozenset({"com.docker.compose.project"}))

    assert spiffe_id(target, TD) == "spiffe://byfahrer.internal/ns/default/svc/web"


@pytest.mark.parametrize("label", ["a/b", "..", ".", "", "x" * 256, "ä", "a b", "a\n"])
def test_a_label_that_is_no_path_segment_is_no_identity(label):
    target = container(labels={"com.docker.compose.project": label, "com.docker.compose.service": label})

    assert spiffe_id(target, TD) == "spiffe://byfahrer.internal/ns/default/svc/www"


def test_there_are_a_hundred_names_at_most_and_the_containers_own_are_among_them():
    aliases = tuple(f"alias-{number}" for number in range(500))
    names = names_of(container(networks=(Network(name="net", aliases=aliases),)), TD)

    assert len(names.dns) == MOST
    assert {"localhost", "www", "alias-0"} < set(names.dns)


def test_names_are_lower_case_and_each_is_there_once():
    names = names_of(container("WWW", hostname="www", networks=(Network(name="N", addresses=("::1",)),)), TD)

    assert names.dns == ("localhost", "www", "www.n")
    assert names.addresses == ("::1", "127.0.0.1")


@pytest.mark.parametrize("name", ["web", "a_b", "_x._tcp", "a-b.c", "x" * 63, "*.a.b", "1", "xn--bcher-kva.example"])
def test_dns_names(name):
    assert is_dns_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a-", "a..b", ".a", "a.", "x" * 64, "A", "*", "*.a", "a.*.b", "ä", "1.2.3.4", "a/b", "a\n", "a\0"],
)
def test_what_is_no_dns_name(name):
    assert not is_dns_name(name)
    assert not is_dns_name("a." * 127)


@pytest.mark.parametrize(
    ("domain", "is_one"),
    [("byfahrer.internal", True), ("a_b-c.d", True), ("A", False), ("a:1", False), ("a/b", False), (".a", False),
     ("a..b", False), ("", False), ("a" * 256, False), ("a\n", False)],
)  # fmt: skip
def test_trust_domains(domain, is_one):
    assert is_trust_domain(domain) is is_one


def test_a_client_has_its_name_and_an_id_of_its_own():
    assert client_names("laptop", "td") == Names(dns=("laptop",), spiffe="spiffe://td/client/laptop")
    for name in ("", "a/b", "*.a.b", "..", "A B", "1.2.3.4"):
        with pytest.raises(ValueError, match=f"^{re.escape(name)}$"):
            client_names(name, "td")


def test_names_cover_others_or_tell_which_not():
    own = Names(dns=("a", "b"), addresses=("::1",), spiffe="spiffe://td/x")

    assert own.covers(Names()) == []
    assert own.covers(Names(dns=("b",), addresses=("::1",), spiffe="spiffe://td/x")) == []
    assert own.covers(Names(dns=("c",), addresses=("::2",), spiffe="spiffe://td/y")) == ["::2", "c", "spiffe://td/y"]


@settings(deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80), st.lists(st.text(max_size=80), max_size=5))
def test_whatever_a_container_is_called_the_names_are_names(name, label, hostname, extra):
    target = container(
        name,
        hostname=hostname,
        labels=dict.fromkeys((*COMPOSE, *SWARM), label),
        networks=(Network(name=label, aliases=(hostname, label), addresses=(name, label)),),
    )
    names = names_of(target, TD, extra)

    assert all(map(is_dns_name, names.dns))
    assert {"127.0.0.1", "::1"} <= set(names.addresses)
    assert re.fullmatch(r"spiffe://byfahrer\.internal/ns/[A-Za-z0-9._-]+/svc/[A-Za-z0-9._-]+", names.spiffe)
    assert len(names.spiffe) <= 2048
