"""Reading /proc/net: who listens, what is a backend, which addresses there are."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm import netns
from sslterm.netns import Candidate, Listener, candidates
from sslterm.settings import SIDECAR_UID, Address

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEAD + (
    "   0: 0B00007F:9389 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 26471 1 0 100 0 0\n"
    "   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1675 1 0 100 0 0\n"
    "   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 1676 1 0 100 0 0\n"
)
TCP6 = HEAD + (
    "   0: 00000000000000000000000001000000:CE3B 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 26473 1 0 100 0 0 10 0\n"
    "   1: 0000000000000000FFFF00000100007F:809D 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 26472 1 0 100 0 0 10 0\n"
)


def ip(text):
    return ipaddress.ip_address(text)


def test_listeners_are_read_with_address_port_and_owner():
    assert netns.parse_listeners(TCP) == [Listener(ip("127.0.0.11"), 37769, 0), Listener(ip("0.0.0.0"), 8080, 1000)]
    assert netns.parse_listeners(TCP6) == [Listener(ip("::1"), 52795, 0), Listener(ip("127.0.0.1"), 32925, 0)]


def test_connections_count_when_a_process_has_them():
    """What waits in the kernel's queue, and what is over, has no inode."""
    waits = "   3: 0100007F:1F90 0100007F:D432 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100 0 0\n"
    over = "   4: 0100007F:1F90 0100007F:D433 06 00000000:00000000 03:00000D5C 00000000     0        0 0 3 0\n"

    assert netns.parse_accepted(TCP + waits + over, {8080}) == 1
    assert netns.parse_accepted(TCP, {443}) == 0
    assert netns.parse_accepted(TCP6, {52795}) == 0


@given(host=st.ip_addresses(), port=st.integers(0, 65535), uid=st.integers(0, 2**32 - 1))
def test_whatever_the_kernel_prints_is_read_back(host, port, uid):
    words = struct.unpack(f"={len(host.packed) // 4}I", host.packed)
    digits = "".join(f"{word:08X}" for word in words)
    line = f"   0: {digits}:{port:04X} 0:0 0A 00000000:00000000 00:00000000 00000000 {uid} 0 1 1 0 100 0 0 10 0\n"
    expected = getattr(host, "ipv4_mapped", None) or host

    assert netns.parse_listeners(HEAD + line) == [Listener(expected, port, uid)]


@given(st.text(alphabet=" 0A1F:\n", max_size=300))
def test_lines_that_are_none_are_passed_over(text):
    assert all(isinstance(each, Listener) for each in netns.parse_listeners(HEAD + text) or [])


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("0.0.0.0", ("127.0.0.1",)),
        ("::", ("127.0.0.1", "::1")),
        ("127.0.0.1", ("127.0.0.1",)),
        ("127.0.0.2", ("127.0.0.2",)),
        ("::1", ("::1",)),
    ],
)
def test_what_loopback_reaches_is_a_candidate(host, hosts):
    assert candidates([Listener(ip(host), 80, 0)]) == [Candidate(80, hosts)]


def test_one_port_on_two_sockets_is_one_candidate():
    both = [Listener(ip("::1"), 80, 0), Listener(ip("0.0.0.0"), 80, 0), Listener(ip("127.0.0.2"), 80, 0)]

    assert candidates(both) == [Candidate(80, ("127.0.0.1", "127.0.0.2", "::1"))]


def test_what_is_not_the_target_is_no_candidate():
    listeners = [
        Listener(ip("127.0.0.11"), 40000, 0),  # the engine's name server
        Listener(ip("172.17.0.2"), 9000, 0),  # not reachable over loopback
        Listener(ip("::"), 443, SIDECAR_UID),  # another sidecar
        Listener(ip("::"), 8081, 0),  # our own port
        Listener(ip("127.0.0.1"), 5432, 0),  # our own, too, by which the target calls others
    ]

    assert candidates(listeners, own_ports={8081, 5432}) == []
    assert netns.unreachable(listeners) == [Address("172.17.0.2", 9000)]


FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 4
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.5
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
Local:
        |-- 172.17.0.5
           /32 host LOCAL
"""
IF_INET6 = """fd000000000000000000000000000002 04 40 00 82     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""


def test_own_addresses_are_those_that_others_can_use():
    assert netns.parse_fib_trie(FIB_TRIE) == {"172.17.0.5"}
    assert netns.parse_if_inet6(IF_INET6) == {"fd00::2"}
    assert netns.parse_fib_trie("") == netns.parse_if_inet6("") == frozenset()


class Script:
    """Reads of the tables, one after another; the last one stays."""

    def __init__(self, *reads):
        self.reads = list(reads)

    def __call__(self):
        return self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]


@pytest.fixture
def no_pauses(monkeypatch):
    async def yield_only(_seconds):
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", yield_only)


WEB, ADMIN = Listener(ip("0.0.0.0"), 80, 0), Listener(ip("127.0.0.1"), 9090, 0)


@pytest.mark.usefixtures("no_pauses")
def test_the_backend_is_waited_for_and_said_so_once_a_minute():
    said = []
    reads = [[]] * 400 + [[WEB]]
    found = anyio.run(netns.find_backend, (), lambda *line: said.append(line), Script(*reads))

    assert found.address == Address("127.0.0.1", 80)
    assert said
    assert set(said) == {("INFO", "backend-addr=auto: waiting for a listener in this network namespace")}
    assert len(said) < 10


@pytest.mark.usefixtures("no_pauses")
def test_a_second_port_that_opens_a_moment_later_makes_it_ambiguous():
    with pytest.raises(netns.AmbiguousError) as error:
        anyio.run(netns.find_backend, (), print, Script([WEB], [WEB, ADMIN]))

    assert str(error.value) == "127.0.0.1:80, 127.0.0.1:9090"


@pytest.mark.usefixtures("no_pauses")
def test_a_listener_that_goes_away_again_is_not_the_backend():
    found = anyio.run(netns.find_backend, (), lambda *_: None, Script([WEB], [], [], [ADMIN]))

    assert found.port == 9090


@pytest.mark.usefixtures("no_pauses")
def test_the_wait_names_what_it_cannot_use():
    said = []
    other = Listener(ip("172.17.0.2"), 9000, 0)
    anyio.run(netns.find_backend, (), lambda _, line: said.append(line), Script([other], [other], [other, WEB]))

    assert "172.17.0.2:9000 cannot be reached over loopback" in said[0]


def test_the_tables_of_this_machine_can_be_read():
    assert all(0 < each.port < 65536 for each in netns.read_listeners())
    assert "127.0.0.1" not in netns.read_addresses()


def refuse():
    raise PermissionError


@pytest.mark.parametrize("told", [True, False], ids=["by sock_diag", "by /proc"])
def test_a_listener_on_one_of_the_ports_is_found_in_either_way(monkeypatch, told):
    if not told:
        monkeypatch.setattr(netns.sockdiag, "listeners", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = server.getsockname()[1]
        expected = [Listener(ip("127.0.0.1"), port, os.geteuid())]

        assert netns.listening({port}) == expected
        assert [each for each in netns.read_listeners() if each.port == port] == expected
        assert other.getsockname()[1] in [each.port for each in netns.read_listeners()]
    assert netns.listening({port}) == []


@pytest.mark.parametrize(
    ("listens", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("0.0.0.0", "::1", False),
        ("10.0.0.5", "127.0.0.1", False),
        ("127.0.0.2", "127.0.0.1", False),
        ("10.0.0.5", "10.0.0.5", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("10.0.0.5", "0.0.0.0", False),
        ("::1", "::", True),
        ("0.0.0.0", "::", False),
        ("127.0.0.1", "::ffff:0.0.0.0", True),
        ("10.0.0.5", "::ffff:10.0.0.5", True),
    ],
)
def test_who_takes_connections_to_an_address(listens, host, expected):
    found = [netns.Listener(ipaddress.ip_address(listens), 80, 0)]

    assert netns.takes(found, host, 80) is expected
    assert not netns.takes(found, host, 81)
