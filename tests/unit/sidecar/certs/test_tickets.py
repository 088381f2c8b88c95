"""Shared ticket keys: contexts that have the same ones resume each other's sessions; what cannot be is left alone."""

from __future__ import annotations

import os
import ssl

import pytest

from lab.certificates import make
from lab.handshake import client_with, shake
from sslterm.certs import tickets
from sslterm.certs.bundle import Bundle
from sslterm.certs.context import build
from sslterm.settings import Mode, TlsProfile

PAIR = make("localhost")


def server():
    return build(Bundle(PAIR.cert, PAIR.key, "cert.pem", "key.pem"), Mode.HTTP, TlsProfile.INTERMEDIATE)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_contexts_with_the_same_keys_resume_each_others_sessions(version):
    client = client_with(version=version)
    first, second, stranger = server(), server(), server()
    keys = os.urandom(tickets.SIZE)
    assert tickets.share(first, keys)
    assert tickets.share(second, keys)
    session = shake(first, client).session

    assert shake(second, client, session=session).session_reused
    assert not shake(stranger, client, session=session).session_reused


def test_keys_of_another_length_are_refused():
    assert not tickets.share(server(), os.urandom(tickets.SIZE - 1))


def test_an_object_that_holds_no_context_is_left_alone(monkeypatch):
    context = server()
    monkeypatch.setattr(type(context), "options", property(lambda self: 0))

    assert not tickets.share(context, os.urandom(tickets.SIZE))
