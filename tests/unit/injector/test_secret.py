"""A target's own certificate comes from secrets of its own service, by the label that says so and no other."""

import pytest

from byfahrer import labels, settings
from byfahrer.labels import LabelError
from byfahrer.model import NO_SERVICE, Container, Mount, Service, Status
from byfahrer.secret import certificate
from byfahrer.spec import sidecar_spec

ID, OTHER = "a" * 25, "b" * 25
SERVICE = Service(secrets={"site": ID, "site-key": OTHER})
FOLDER = "/var/lib/docker/containers/x"
TASK = Container(
    id="1" * 64, name="web.1.x", image="httpcheck", status=Status.RUNNING, folder=FOLDER,
    labels={"com.docker.swarm.service.id": "s" * 25},
)  # fmt: skip


def asked(target=TASK, service=SERVICE, **carried):
    found = labels.collect({f"byfahrer.{name}": value for name, value in carried.items()})
    return certificate(found, target, service)


def mount(secret_id, name):
    return Mount(kind="bind", source=f"{FOLDER}/mounts/secrets/{secret_id}", destination=f"/run/target-secrets/{name}")


def test_one_secret_holds_both_or_each_has_its_own():
    both = asked(cert="secret:site")
    each = asked(cert="secret:site", key="secret:site-key")

    assert both == (dict.fromkeys(("cert", "key"), "/run/target-secrets/cert.pem"), (mount(ID, "cert.pem"),))
    assert each == (
        {"cert": "/run/target-secrets/cert.pem", "key": "/run/target-secrets/key.pem"},
        (mount(ID, "cert.pem"), mount(OTHER, "key.pem")),
    )


def test_without_a_label_there_is_nothing():
    assert asked() == ({}, ())


@pytest.mark.parametrize(
    ("carried", "target", "service", "says"),
    [
        ({"cert": "/x"}, TASK, SERVICE, "byfahrer.cert='/x': expected secret:NAME"),
        ({"cert": "secret:"}, TASK, SERVICE, "expected secret:NAME"),
        ({"key": "secret:site"}, TASK, SERVICE, "expected byfahrer.cert beside it"),
        ({"cert": "secret:../../x"}, TASK, SERVICE, "which has: site, site-key"),
        ({"cert": "secret:site"}, TASK, NO_SERVICE, "which has: none, as far as a manager has told"),
        ({"cert": "secret:site"}, TASK, Service(secrets={"site": "../../../etc"}), "this one does not"),
        (
            {"cert": "secret:site"},
            Container(id="1" * 64, name="www", image="httpcheck", status=Status.RUNNING, folder=FOLDER),
            SERVICE,
            "a container by itself has no secrets",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_says_what_could(carried, target, service, says):
    with pytest.raises(LabelError) as caught:
        asked(target, service, **carried)

    assert says in str(caught.value)


def test_a_sidecar_has_them_read_only():
    found = labels.collect({"byfahrer.proxy-image": "sslterm", "byfahrer.cert": "secret:site"})
    spec = sidecar_spec(found, TASK, SERVICE, user="1:1", bounds=settings.policy().limits)

    assert dict(spec.env)["SSLTERM_CERT"] == dict(spec.env)["SSLTERM_KEY"] == "/run/target-secrets/cert.pem"
    assert spec.mounts == (mount(ID, "cert.pem"),)
    assert not spec.mounts[0].writable
