"""Which listeners let clients go round TLS, and which do not."""

from __future__ import annotations

import ipaddress

import pytest

from sslterm import bypass
from sslterm.netns import Listener
from sslterm.settings import AUTO, SIDECAR_UID, Address, Settings


def listener(host, port=8080, uid=0):
    return Listener(ipaddress.ip_address(host), port, uid)


def test_what_others_reach_is_told_once_and_in_order():
    found = [listener("::"), listener("10.0.0.2"), listener("0.0.0.0"), listener("0.0.0.0"), listener("0.0.0.0", 80)]

    assert bypass.around(found) == ("0.0.0.0:80", "0.0.0.0:8080", "10.0.0.2:8080", "[::]:8080")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.11", "127.8.8.8", "::1"])
def test_loopback_is_no_way_round(host):
    assert bypass.around([listener(host)]) == ()


def test_a_target_that_runs_as_the_sidecars_user_is_told_of():
    assert bypass.around([listener("0.0.0.0", uid=SIDECAR_UID)]) == ("0.0.0.0:8080",)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (Settings(frontend_addr=Address("10.0.0.2", 8080)), ("10.0.0.3:8080",)),
        (Settings(frontend_addr=AUTO, redirect_addr=Address("10.0.0.3", 8080)), ("10.0.0.2:8080",)),
        (Settings(frontend_addr=Address("10.0.0.2", 8081)), ("10.0.0.2:8080", "10.0.0.3:8080")),
        (Settings(frontend_addr=AUTO), ("10.0.0.2:8080", "10.0.0.3:8080")),
    ],
)
def test_only_the_sidecars_own_addresses_are_no_way_round(settings, found):
    listeners = [listener("10.0.0.2"), listener("10.0.0.3")]

    assert bypass.around(listeners, bypass.own_addresses(settings)) == found


def test_an_empty_host_is_every_address():
    own = bypass.own_addresses(Settings(frontend_addr=AUTO, redirect_addr=Address("", 8080)))

    assert bypass.around([listener("::"), listener("0.0.0.0"), listener("10.0.0.2")], own) == ("10.0.0.2:8080",)


def test_what_is_told_has_its_limit():
    found = bypass.around(listener(f"10.0.0.{number}") for number in range(1, 100))

    assert len(found) == bypass.MOST
    assert found[0] == "10.0.0.1:8080"


def test_ports_of_backends_elsewhere_are_not_looked_at():
    backends = [("127.0.0.1", 1), ("::1", 2), ("10.0.0.2", 3), ("192.0.2.1", 4), ("fe80::1%eth0", 5), ("fd00::2", 6)]

    assert bypass.audited(backends, {"10.0.0.2", "fd00::2"}) == {1, 2, 3, 6}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:10.0.0.2"])
def test_an_address_that_leads_here_is_looked_at_however_it_is_written(host):
    assert bypass.audited([(host, 8080)], {"10.0.0.2"}) == {8080}


def test_the_words_name_the_addresses():
    assert bypass.fault_of(()) == ""
    assert bypass.fault_of(("0.0.0.0:1", "[::]:1")).endswith("the backend also listens on 0.0.0.0:1, [::]:1")
