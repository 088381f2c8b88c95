"""A token is good for one target, for the names of that target, and for as long as it lives."""

from __future__ import annotations

import json

import pytest
from cryptography import x509

from lab.trust import DOMAIN, certificate, client, leaf, post, scene, token_of

FORBIDDEN, UNAUTHORIZED = 403, 401
REPORT = json.dumps({
    "source": "authority", "serial": "", "sha256": "", "not_after": "2030-01-01T00:00:00Z", "names": [],
    "failing": "", "denied": {}, "connections": 0, "requests": 0,
}).encode()  # fmt: skip


@pytest.fixture(scope="module")
def stage(engine):
    with scene(engine) as made:
        made.begin()
        yield made


@pytest.fixture(scope="module")
def two(stage):
    return stage.target("a"), stage.target("b")


def uris(pem):
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def test_a_stolen_token_gives_no_more_than_its_targets_names(stage, two):
    lab, home = stage.lab, stage.home
    token = token_of(lab, stage.sidecar(two[0]))
    status, _, pair = certificate(home, token)

    assert status == 200
    assert uris(pair.cert) == [f"spiffe://{DOMAIN}/ns/default/svc/{lab.mark}-a"]
    for names in (
        [f"{lab.mark}-b"],
        ["localhost", f"{lab.mark}-b"],
        [lab.address(two[1])],
        [f"spiffe://{DOMAIN}/ns/default/svc/{lab.mark}-b"],
        ["www.example.org"],
        ["*.example.org"],
    ):
        status, answer, _ = certificate(home, token, *names)
        assert (names, status) == (names, FORBIDDEN)
        assert list(answer) == ["error"]
        assert "\n" not in answer["error"]


def test_a_changed_token_is_none(stage, two):
    token = token_of(stage.lab, stage.sidecar(two[0]))
    other = token_of(stage.lab, stage.sidecar(two[1]))
    version, target, sidecar, code = token.split(".")
    foreign = other.split(".")
    for wrong in (
        "",
        token[:-1],
        ".".join((version, foreign[1], sidecar, code)),
        ".".join((version, target, foreign[2], code)),
        ".".join((version, target, sidecar, foreign[3])),
        ".".join((version, target, sidecar, "0" * 64)),
    ):
        assert certificate(stage.home, wrong)[0] == UNAUTHORIZED


def test_a_token_dies_with_its_target(stage):
    for name, end in (("stopped", stage.lab.api.kill), ("removed", stage.lab.remove)):
        target = stage.target(name)
        token = token_of(stage.lab, stage.sidecar(target))
        assert certificate(stage.home, token)[0] == 200
        assert post(stage.home.socket, "/v1/status", token, REPORT)[0] == 200
        end(target)
        assert certificate(stage.home, token)[0] in (UNAUTHORIZED, FORBIDDEN)
        stage.lab.is_left_alone(target)
        assert certificate(stage.home, token)[0] == UNAUTHORIZED
        assert post(stage.home.socket, "/v1/status", token, REPORT)[0] == UNAUTHORIZED


def test_a_token_outlives_the_injector(stage, two):
    before = token_of(stage.lab, stage.sidecar(two[1]))
    stage.injector.stop()
    stage.begin()

    assert token_of(stage.lab, stage.sidecar(two[1])) == before
    assert certificate(stage.home, before)[0] == 200
    assert leaf(stage.lab.address(two[1]), client(stage.home.root()))
