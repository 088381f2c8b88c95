"""Listening sockets as the kernel lists them: every length and kind of message is checked before it is believed."""

from __future__ import annotations

import os
import socket
import struct
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sslterm import sockdiag


def message(kind, body):
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def entry(host, port, *, state=10, uid=0):
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    place = struct.pack(">HH", port, 0) + packed.ljust(16, b"\0") + bytes(16) + bytes(12)
    return message(20, struct.pack("=BBBB", family, state, 0, 0) + place + struct.pack("=IIIII", 0, 0, 0, uid, 7))


DONE = message(3, bytes(4))


def test_listeners_and_the_end_of_the_list_are_read():
    data = entry("127.0.0.1", 8080, uid=1000) + entry("::", 443)

    assert sockdiag.parse(data + DONE) == ([(bytes([127, 0, 0, 1]), 8080, 1000), (bytes(16), 443, 0)], True)
    assert sockdiag.parse(data) == ([(bytes([127, 0, 0, 1]), 8080, 1000), (bytes(16), 443, 0)], False)


def test_what_follows_a_listener_as_an_attribute_is_passed_over():
    longer = message(20, entry("127.0.0.1", 8080)[16:] + b"\5\0\10\0\0\0\0")

    assert sockdiag.parse(longer + b"\0" + DONE) == ([(bytes([127, 0, 0, 1]), 8080, 0)], True)


def test_sockets_that_do_not_listen_are_left_out():
    assert sockdiag.parse(entry("127.0.0.1", 8080, state=1) + DONE) == ([], True)


def test_a_refusal_is_an_error_with_the_kernels_reason():
    with pytest.raises(FileNotFoundError):
        sockdiag.parse(message(2, (-2).to_bytes(4, sys.byteorder, signed=True) + bytes(16)))


@given(st.binary(max_size=200))
@example(b"\x10")
@example(b"\x00" * 16)
@example(message(20, b"\2\12"))
def test_any_bytes_are_listeners_or_an_error(data):
    try:
        found, _ = sockdiag.parse(data)
    except OSError:
        return
    assert all(len(host) in (4, 16) and 0 <= port < 65536 for host, port, _ in found)


def test_a_listener_of_this_machine_is_told_with_its_owner():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (bytes([127, 0, 0, 1]), port, os.geteuid()) in sockdiag.listeners()
    assert port not in [each[1] for each in sockdiag.listeners()]


def test_ipv6_is_told_too():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert (bytes(15) + b"\1", server.getsockname()[1], os.geteuid()) in sockdiag.listeners()
