"""byfahrer needs of the engine what docs/privileges.md lists, and nothing else; watching alone changes nothing."""

from __future__ import annotations

import json
from http.client import IncompleteRead
from urllib.parse import quote

import pytest

from byfahrer.engine.endpoints import ENDPOINTS
from lab.injector import byfahrer
from lab.socket_proxy import socket_proxy
from lab.trust import client, leaf
from lab.waiting import wait_until


@pytest.fixture
def proxy():
    with socket_proxy() as made:
        yield made


@pytest.fixture
def looking():
    """The filter that lets nothing through by which anything could change."""
    with socket_proxy("socket-proxy-observe.cfg") as made:
        yield made


def test_a_whole_life_goes_through_the_filter_and_nothing_of_it_is_refused(lab, injector, home, proxy):
    injector(env=proxy.env).is_ready()
    www = lab.run()
    lab.becomes_served(www)
    # The authority's socket is the host's, though the engine is asked through another one.
    wait_until(lambda: leaf(lab.address(www), client(home.root())))
    lab.api.restart(www, timeout=1)
    lab.becomes_served(www)
    before = lab.sidecars(www)[0]["Id"]
    lab.api.kill(before)
    lab.becomes_served(www)
    lab.api.rename(www, f"{lab.mark}-other")
    newcomer = lab.run()
    lab.becomes_served(newcomer)
    lab.becomes_served(www)
    lab.api.stop(www, timeout=5)
    lab.is_left_alone(www)
    plain = lab.run("plain", asks=False)
    name = f"{lab.mark}-plain"
    lab.write(plain, "/etc/ssl/cert.pem", home.root().encode())
    for command in (
        ("inject", name, "--only-label", lab.scope),
        ("ps", "--only-label", lab.scope),
        ("trust", name),
        ("eject", name),
    ):
        done = byfahrer(*command, env=proxy.env)
        assert done.code == 0, done.err
    assert lab.sidecars(plain) == []

    assert proxy.refused() == []


def test_what_a_sidecar_is_to_be_changes_through_the_filter(lab, injector, proxy):
    first = injector("--sidecar-memory", "100m", env=proxy.env).is_ready()
    www = lab.run()
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    first.stop()
    injector("--sidecar-memory", "120m", env=proxy.env).is_ready()
    wait_until(lambda: [each["HostConfig"]["Memory"] for each in lab.sidecars(www)] == [120 * 1024**2], 20)
    lab.becomes_served(www)

    assert lab.sidecars(www)[0]["Id"] != before["Id"]
    assert proxy.refused() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1.41/containers/NAME/exec"),
        ("POST", "/v1.41/containers/NAME/attach?stream=1"),
        ("POST", "/v1.41/containers/NAME/update"),
        ("POST", "/containers/prune"),
        ("POST", "/build"),
        ("POST", "/images/load"),
        ("DELETE", "/v1.41/images/sslterm"),
        ("POST", "/v1.41/volumes/create"),
        ("GET", "/v1.41/containers/NAME/export"),
        ("GET", "/v1.41/containers/%4eAME/json"),
        ("GET", "/v1.41/images/../containers/json"),
        ("HEAD", "/_ping"),
    ],
)
def test_what_is_not_in_the_list_is_refused(lab, proxy, method, path):
    lab.run(asks=False)
    path = path.replace("NAME", f"{lab.mark}-www")

    assert proxy.ask(method, path) == 403
    wait_until(lambda: len(proxy.refused()) == 1)


def test_a_change_of_the_protocol_is_refused(proxy):
    assert proxy.ask("GET", "/info") == 200
    assert proxy.ask("GET", "/info", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c") == 403


def test_the_part_for_watching_lets_nothing_through_that_changes_anything(lab, looking):
    www = lab.run(asks=False)
    wanted = [each for each in ENDPOINTS if not each.observe]
    for each in wanted:
        path = each.path.replace("{container}", www).replace("{image}", "sslterm")
        assert looking.ask(each.method, path, "{}", **{"Content-Type": "application/json"}) == 403

    assert len(wanted) > 5
    assert lab.status(www) == "running"


def test_an_event_stream_outlives_a_silence_that_ends_any_other_answer(lab):
    quiet = lab.run("quiet", "debian:trixie-slim", asks=False, command=["sleep", "1000"])
    nothing = quote(json.dumps({"label": [f"no-such={lab.mark}"]}))
    with (
        socket_proxy("socket-proxy.cfg", ("timeout server 10m", "timeout server 1s")) as proxy,
        proxy.connection(timeout=5) as connection,
        proxy.connection() as other,
    ):
        connection.request("GET", f"/v1.41/events?filters={nothing}")
        stream = connection.getresponse()
        other.request("GET", f"/v1.41/containers/{quiet}/logs?stdout=1&follow=1")
        with pytest.raises(IncompleteRead):
            other.getresponse().read()
        with pytest.raises(TimeoutError):
            stream.read(1)  # neither an event nor an end


def test_who_has_gone_leaves_no_stream_open_on_the_engine(lab, injector, proxy):
    before = proxy.sockets()
    daemon = injector(env=proxy.env).is_ready()
    assert proxy.sockets() > before
    daemon.stop()

    wait_until(lambda: proxy.sockets() == before, 20)
    assert proxy.refused() == []
