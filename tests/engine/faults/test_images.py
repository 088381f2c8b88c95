"""Images of sidecars that are not there, come, and go."""

from __future__ import annotations

import contextlib

import pytest
from docker.errors import ImageNotFound

from lab.waiting import wait_until


@pytest.fixture
def image(lab):
    """A name for an image that is this test's own."""
    name = f"sslterm-{lab.mark}"
    yield name
    lab.clean()
    with contextlib.suppress(ImageNotFound):
        lab.api.remove_image(name)


def test_an_image_that_is_not_there_is_named_and_used_as_soon_as_it_is(lab, injector, image, fault):
    broken = fault(
        24,
        "the sidecar's image is not there, and comes later",
        "said once, nobody else is kept waiting; served when it is there",
    )
    daemon = injector().is_ready()
    late = lab.run("late", labels={"byfahrer.proxy-image": image})
    good = lab.run("good")
    daemon.says(f"'{lab.mark}-late': image '{image}' is not on this engine, and cannot be pulled: ")
    lab.becomes_served(good)
    assert lab.sidecars(late) == []
    lab.api.tag(lab.sidecar_image, image)
    broken.happens()
    broken.converges(lab, 90)

    assert len([line for line in daemon.saying("is not on this engine") if "ERROR" in line]) == 1


def test_an_image_that_is_updated_under_its_tag_replaces_its_sidecars(lab, injector, image, fault):
    broken = fault(
        29, "the image is updated under its tag, and two sidecars run from it", "replaced by new ones, of the new image"
    )
    injector("--resync", "2").is_ready()
    lab.api.tag(lab.sidecar_image, image)
    targets = [lab.run(name, labels={"byfahrer.proxy-image": image}) for name in ("one", "two")]
    for each in targets:
        lab.becomes_served(each)
    lab.api.tag(lab.image("org.opencontainers.image.version=next", of=image), image)
    broken.happens()
    broken.converges(lab)
    wait_until(lambda: {each["Name"] for each in lab.sidecars()} == {f"/{lab.mark}-{n}-proxy" for n in ("one", "two")})


def test_an_image_that_goes_away_takes_no_sidecar_with_it(lab, injector, image, fault):
    broken = fault(
        24, "the sidecar's image goes away while it serves; then its target restarts", "the same sidecar goes on"
    )
    injector().is_ready()
    lab.api.tag(lab.sidecar_image, image)
    www = lab.run(labels={"byfahrer.proxy-image": image})
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    lab.api.remove_image(image)
    lab.becomes_served(lab.run("other"))  # so that it has been heard of
    lab.api.restart(www, timeout=1)
    broken.happens()
    broken.converges(lab)

    assert lab.sidecars(www)[0]["Id"] == before["Id"]
