"""One label, and a container has a certificate from an ACME server: renewed in time, and kept when it is made anew."""

from __future__ import annotations

import io
import signal
import tarfile

import pytest
from docker.errors import NotFound

from lab.pebble import pebble
from lab.trust import PORT, leaf, scene
from lab.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

NAME = "www.example.test"
VALIDITY = 45
"""Seconds, of which a third is left when a certificate is renewed."""


@pytest.fixture(scope="module")
def stage(engine):
    with scene(engine) as made:
        made.begin()
        yield made


@pytest.fixture(scope="module")
def acme(engine, tmp_path_factory):
    """A server on this machine, which containers reach at their gateway."""
    network = engine.inspect_network("bridge")
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    with pebble(tmp_path_factory.mktemp("acme"), PORT, 80, validity=VALIDITY, host=gateway) as running:
        yield running


@pytest.fixture(scope="module")
def image(stage, acme):
    """The sidecar's image with the authority of a private ACME server in it, as its operator would make it."""
    files = {
        "Dockerfile": b"FROM sslterm\nCOPY acme-ca.pem /\nENV SSLTERM_ACME_CA=/acme-ca.pem\n",
        "acme-ca.pem": acme.ca.read_bytes(),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    packed.seek(0)
    tag = f"sslterm-{stage.lab.mark}"
    told = list(stage.lab.api.build(fileobj=packed, custom_context=True, tag=tag, rm=True, decode=True))
    assert "error" not in told[-1], told[-1]
    yield tag
    stage.lab.clean()
    stage.lab.api.remove_image(tag)


@pytest.fixture(scope="module")
def start(stage, acme, image):
    """Makes the target, always by the same name."""
    lab = stage.lab

    def run():
        www = lab.run(
            labels={
                "byfahrer.proxy-image": image,
                "byfahrer.acme": NAME,
                "byfahrer.acme-directory": acme.directory,
            },
            start=False,
        )
        stage.injector.send(signal.SIGSTOP)  # until the name is known: its address is, once it runs
        lab.api.start(www)
        acme.resolve(NAME, lab.address(www))
        stage.injector.send(signal.SIGCONT)
        return www

    yield run
    lab.clean()
    try:
        lab.api.remove_volume(f"byfahrer-acme-{lab.mark}-www")
    except NotFound:
        pytest.fail("there was no volume for what the ACME server issued", pytrace=False)


def test_the_first_certificate_its_renewal_and_a_target_that_is_made_anew(stage, acme, start):
    www, trusting = start(), acme.trusting()
    address = stage.lab.address(www)
    first = wait_until(lambda: leaf(address, trusting, NAME), 60)
    assert acme.orders == 1
    second = wait_until(
        lambda: (found := leaf(address, trusting, NAME)) and found.serial_number != first.serial_number and found, 90
    )
    assert first.not_valid_after_utc > second.not_valid_before_utc
    assert second.not_valid_after_utc > first.not_valid_after_utc
    orders = acme.orders

    stage.lab.remove(www)
    stage.lab.is_left_alone(www)
    again = stage.lab.address(start())
    kept = wait_until(lambda: leaf(again, trusting, NAME), 20)
    assert (kept.serial_number, acme.orders) == (second.serial_number, orders)
    assert acme.accounts == 1
