"""What a task can prove by its certificate, and to whom; and certificates that an operator brings as Swarm secrets."""

from __future__ import annotations

import json
import ssl
from contextlib import suppress

import pytest
from docker.errors import NotFound

from lab.nested import connect_in
from lab.nodes import certificate, fetch, is_secured
from lab.private_ca import PrivateCa
from lab.waiting import wait_until
from swarm.conftest import NETWORK

ASKS = "byfahrer.proxy-image=sslterm"


@pytest.fixture
def service(shop, secret):  # services go first, for a secret cannot that is in use
    """Creates a service of one task on the shop's network, annotated with labels; where it runs, and its container."""
    made = []

    def create(name, *labels, options=()):
        made.append(name)
        annotated = [word for each in (ASKS, *labels) for word in ("--label", each)]
        shop.manager.docker(
            "service", "create", "--quiet", "--detach", "--no-resolve-image", "--name", name, "--network", NETWORK,
            *annotated, *options, "httpcheck",
        )  # fmt: skip
        return wait_until(lambda: shop.tasks(name), 60)[0]

    yield create
    for each in made:
        with suppress(NotFound):
            shop.manager.api.remove_service(each)
        wait_until(lambda name=each: not any(node.tasks(name, everything=True) for node in shop.all), 60)


@pytest.fixture
def secret(shop):
    """Creates a Swarm secret; removed when the services that have it are gone."""
    made = []

    def create(name, content):
        made.append(shop.manager.api.create_secret(name, content)["ID"])

    yield create
    for each in made:
        shop.manager.api.remove_secret(each)


def elsewhere(shop, clients, node):
    """The namespace of a client on another node."""
    return clients[shop.but(node)[0].name]


def names_in(shown):
    return {
        kind: {value for each, value in shown["subjectAltName"] if each == kind}
        for kind in ("DNS", "IP Address", "URI")
    }


def test_a_task_has_the_names_that_others_know_it_by(shop, clients, root):
    node, task = shop.tasks("shop_web")[0]
    address = node.address_of(task, NETWORK)
    client = elsewhere(shop, clients, node)
    wait_until(lambda: is_secured(client, (address, 8081), root, "tasks.shop_web"), 30)
    found = names_in(certificate(client, (address, 8081), root, "tasks.shop_web"))

    assert {"web", "tasks.web", "shop_web", "tasks.shop_web", "web.shop_net"} <= found["DNS"]
    assert address in found["IP Address"]
    assert found["URI"] == {"spiffe://byfahrer.internal/ns/shop/svc/web"}


def test_a_task_has_its_services_virtual_address_too(shop, clients, root, service):
    """No kernel with IPVS is needed for that: the address is the service's whether packets to it arrive or not."""
    node, task = service("virtual", options=("--endpoint-mode", "vip"))
    place = (node.address_of(task, NETWORK), 8081)
    client = elsewhere(shop, clients, node)
    (endpoint,) = shop.manager.api.inspect_service("virtual")["Endpoint"]["VirtualIPs"]
    virtual = endpoint["Addr"].partition("/")[0]
    wait_until(lambda: is_secured(client, place, root, virtual), 30)

    assert virtual in names_in(certificate(client, place, root, "tasks.virtual"))["IP Address"]


def test_only_those_may_call_that_its_labels_name(shop, clients, root, tmp_path):
    node, task = shop.tasks("shop_db")[0]
    address = node.address_of(task, NETWORK)
    client = elsewhere(shop, clients, node)
    pair = tmp_path / "laptop.pem"
    pair.write_text(shop.manager.byfahrer("ca", "issue", "--name", "laptop"))

    assert b"pi(20)=" in fetch(client, address, root, "tasks.shop_db", pair=pair)
    with pytest.raises(ssl.SSLError, match="certificate required"):
        fetch(client, address, root, "tasks.shop_db")


def test_two_services_on_different_nodes_talk_mutual_tls_with_nothing_but_labels(shop):
    """The program of one asks a port on its own loopback; db's sidecars let its SPIFFE ID in, and nobody without."""
    node, task = shop.tasks("shop_web")[0]
    inside, caller = node.namespace_of(task), node.address_of(task, NETWORK)

    def served_elsewhere():
        assert b"pi(20)=" in ask_plainly(inside, 5432)
        return any(
            caller in each.words(sidecar["Id"])
            for each, target in shop.tasks("shop_db", shop.but(node))
            for sidecar in each.sidecars(target)
        )

    wait_until(lambda: answers(inside, 5432), 30)
    wait_until(served_elsewhere, 30)


def answers(namespace, port):
    try:
        return b"pi(20)=" in ask_plainly(namespace, port)
    except OSError:
        return False


def ask_plainly(namespace, port):
    with connect_in(namespace, ("127.0.0.1", port)) as plain:
        plain.sendall(b"GET /pi/20 HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := plain.recv(65536):
            answer += data
        return answer


def test_a_certificate_of_ones_own_comes_as_a_secret(shop, clients, service, secret):
    own = PrivateCa.made()
    issued = own.issue("shop.example.org")
    secret("own", issued.key + issued.cert)
    node, task = service("branded", "byfahrer.cert=secret:own", options=("--secret", "own"))
    client, place = elsewhere(shop, clients, node), (node.address_of(task, NETWORK), 8081)

    wait_until(lambda: is_secured(client, place, own.pem.decode(), "shop.example.org"), 30)


def test_a_secret_that_its_service_has_not_is_an_error_that_names_those_it_has(shop, service, secret):
    secret("other", b"something")
    node, task = service("mistaken", "byfahrer.cert=secret:own", options=("--secret", "other"))

    def told():
        (found,) = [each for each in json.loads(node.byfahrer("ps", "--json")) if each["target"].startswith("mistaken")]
        return "a secret of its service, which has: other" in "; ".join(found["problems"])

    wait_until(told, 30)
    assert node.sidecars(task) == []
