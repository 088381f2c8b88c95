"""
A sidecar is replaced by another, and clients notice nothing: the image is updated under its name, the operator changes
a setting. One that cannot work is not let in.
"""

from __future__ import annotations

import time

import pytest

from lab.engine import fetch
from lab.programs import STEADY
from lab.steady import steady_load
from lab.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

PORT = 8081
SETTLE = 60.0
RATE = 300


@pytest.fixture
def images(lab):
    """IDs of two images of sslterm, and of one that ends at once; none has a name."""
    good = [lab.image("sslterm.hand-over=SIGUSR2", f"byfahrer-test-number={number}", of="sslterm") for number in (1, 2)]
    return (*good, lab.image("sslterm.hand-over=SIGUSR2", of="sslterm", command="no-such-command"))


@pytest.fixture
def name(lab):
    """An image's name for this test; whatever has it is untagged at its end."""
    made = f"{lab.mark}:test"
    yield made
    lab.api.remove_image(made, noprune=True, force=True)


def target(lab, name):
    return lab.run(
        labels={"byfahrer.proxy-image": name, "byfahrer.log-level": "debug"},
        entrypoint=["/usr/bin/python3", "-c", STEADY],
    )


def replaced(lab, www, old, image):
    """Wait until another sidecar of this image is the only one, under the usual name."""

    def done():
        found = lab.sidecars(www)
        return [each["Name"] for each in found] == [f"/{lab.mark}-www-proxy"] and (
            found[0]["Id"] != old and found[0]["Image"] == image and found[0]["State"]["Running"]
        )

    wait_until(done, SETTLE)
    return lab.sidecars(www)[0]["Id"]


def test_no_request_is_lost_while_an_updated_image_and_then_another_setting_take_over(lab, injector, images, name):
    first, second, _ = images
    lab.api.tag(first, *name.split(":"))
    running = injector("--allow-image", name, "--resync", "5s").is_ready()
    www = target(lab, name)
    lab.becomes_served(www)
    (before,) = (each["Id"] for each in lab.sidecars(www))
    with steady_load(PORT, host=lab.address(www), rate=RATE) as load:
        load.goes_on(2 * RATE)
        begun = time.monotonic()
        lab.api.tag(second, *name.split(":"))
        middle = replaced(lab, www, before, second)
        print(f"an updated image was in place after {time.monotonic() - begun:.1f} s")
        load.goes_on(RATE)

        running.stop()
        begun = time.monotonic()
        injector("--allow-image", name, "--sidecar-memory", "100m").is_ready()
        replaced(lab, www, middle, second)
        print(f"another setting was in place after {time.monotonic() - begun:.1f} s")
        load.goes_on(RATE)
        result = load.result()
    print(result)

    assert result["failures"] == []
    assert result["answered"] == result["due"]
    assert lab.namespace(lab.sidecars(www)[0]["Id"]) == lab.namespace(www)


def test_an_update_that_cannot_work_leaves_the_one_that_serves_and_is_told_once(lab, injector, images, name):
    first, second, broken = images
    lab.api.tag(first, *name.split(":"))
    running = injector("--allow-image", name, "--resync", "5s").is_ready()
    www = target(lab, name)
    lab.becomes_served(www)
    (before,) = (each["Id"] for each in lab.sidecars(www))
    lab.api.tag(broken, *name.split(":"))
    running.says("its new proxy container", seconds=SETTLE)
    wait_until(
        lambda: lab.sidecars(www) and len(running.saying(f"Proxy container '{lab.mark}-www-proxy-next' started")) > 3,
        SETTLE,
    )

    assert lab.status(before) == "running"
    assert fetch(lab.address(www))[0] == 200
    assert len(running.saying("its new proxy container")) == 1
    assert len(lab.sidecars(www)) == 2

    lab.api.tag(second, *name.split(":"))
    replaced(lab, www, before, second)
    lab.becomes_served(www)
    running.says("has no problem any more")
