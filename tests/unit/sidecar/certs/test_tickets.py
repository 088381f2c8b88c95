"""Shared ticket keys: contexts that have the same ones resume each other's sessions; what cannot be is left alone."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress

import pytest

from lab.certificates import make
from lab.sidecar import any_certificate
from sslterm.certs import tickets
from sslterm.certs.bundle import Bundle
from sslterm.certs.context import build
from sslterm.settings import Mode, TlsProfile

PAIR = make("localhost")


def server():
    return build(Bundle(PAIR.cert, PAIR.key, "cert.pem", "key.pem"), Mode.HTTP, TlsProfile.INTERMEDIATE)


def connect(client, context, session=None):
    """A handshake in memory, and a byte, with which the tickets come; the client's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, session=session)
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    far.write(b"x")
    assert near.read(1) == b"x"
    return near


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_contexts_with_the_same_keys_resume_each_others_sessions(version):
    client = any_certificate()
    client.maximum_version = version
    first, second, stranger = server(), server(), server()
    keys = os.urandom(tickets.SIZE)
    assert tickets.share(first, keys)
    assert tickets.share(second, keys)
    session = connect(client, first).session

    assert connect(client, second, session).session_reused
    assert not connect(client, stranger, session).session_reused


def test_keys_of_another_length_are_refused():
    assert not tickets.share(server(), os.urandom(tickets.SIZE - 1))


def test_an_object_that_holds_no_context_is_left_alone(monkeypatch):
    context = server()
    monkeypatch.setattr(type(context), "options", property(lambda self: 0))

    assert not tickets.share(context, os.urandom(tickets.SIZE))
