"""A sidecar's image is pulled when the operator's policy says so, once, beside everything else; failures are told."""

from __future__ import annotations

import time

import pytest

from lab.injector import byfahrer
from lab.registry import registry


@pytest.fixture
def shop(engine, lab, tmp_path):
    """A registry of this test's own."""
    with registry(engine, tmp_path) as made:
        yield made


@pytest.fixture
def begin(injector, shop, tmp_path):
    """Starts a daemon that may use images of the registry, and has a login there."""

    def start(*options, password=None, env=None):
        given = shop.configuration(tmp_path / "docker", *([password] if password else [])) if env is None else env
        return injector("--allow-image", "sslterm", "--allow-image", f"{shop.host}/shop/*", *options, env=given)

    return start


def asks(image, **more):
    return {"byfahrer.proxy-image": image, **more}


def test_a_missing_image_is_pulled_with_the_usual_credentials_once_for_all(lab, shop, begin):
    image = shop.push()
    targets = [lab.run(f"www{number}", labels=asks(image)) for number in range(5)]
    daemon = begin().is_ready()
    for each in targets:
        lab.becomes_served(each)

    assert shop.asked() == 1
    assert len(daemon.saying(f"Pull image {image}")) == 1
    assert len(daemon.saying(f"Pulled image {image} in ")) == 1
    assert daemon.saying("ERROR") == []


def test_an_image_that_is_there_is_not_pulled(lab, shop, begin, engine):
    image = shop.push()
    engine.tag("sslterm", *image.rsplit(":", 1))
    begin().is_ready()
    lab.becomes_served(lab.run(labels=asks(image)))

    assert shop.asked() == 0


def test_an_image_that_appears_later_is_found_and_its_absence_was_told_once(lab, shop, begin):
    image = shop.name()
    www = lab.run(labels=asks(image))
    daemon = begin("--resync", "1").is_ready()
    line = daemon.says(f"image '{image}' is not on this engine, and cannot be pulled: ")
    daemon.says("could not be pulled, after", times=2)
    shop.push()
    lab.becomes_served(www)

    assert "manifest unknown" in line
    assert f"(with the credentials for {shop.host} in /" in line
    assert len([each for each in daemon.saying("ERROR") if "cannot be pulled" in each]) == 1
    assert len([each for each in daemon.saying("INFO") if "Pull image" in each]) == 1


def test_wrong_credentials_are_told_and_right_ones_are_found_without_a_restart(lab, shop, begin, tmp_path):
    image = shop.push()
    www = lab.run(labels=asks(image))
    daemon = begin(password="let-me-in").is_ready()
    line = daemon.says("cannot be pulled: ")
    shop.configuration(tmp_path / "docker")
    lab.becomes_served(www)

    assert f"(with the credentials for {shop.host} in {tmp_path}/docker/config.json)" in line
    assert not daemon.saying("let-me-in")
    assert not daemon.saying("Traceback")


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no ~/.docker/config.json"), ('{"auths": {}}', "no credentials for"), ("{", "no credentials for")],
)
def test_without_credentials_it_is_said_where_they_would_be(lab, shop, begin, tmp_path, content, says):
    image = shop.push()
    if content:
        (tmp_path / "config.json").write_text(content)
    lab.run(labels=asks(image))
    daemon = begin(env={"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}).is_ready()

    assert says in daemon.says("cannot be pulled: ")


def test_a_registry_that_is_not_there_is_told_in_the_engines_words(lab, shop, begin):
    image = "127.0.0.1:1/shop/sslterm"
    lab.run(labels=asks(image))
    daemon = begin("--allow-image", "127.0.0.1:1/shop/*").is_ready()

    assert "connection refused" in daemon.says(f"image '{image}' is not on this engine, and cannot be pulled: ")


def test_never_means_never(lab, shop, begin):
    image = shop.push()
    www = lab.run(labels=asks(image))
    daemon = begin("--pull", "never").is_ready()
    daemon.says(f"image '{image}' is not on this engine: build or pull it (docker pull {image})")

    assert lab.sidecars(www) == []
    assert shop.asked() == 0


def test_an_image_that_may_be_no_sidecar_is_not_pulled_either(lab, shop, begin):
    image = shop.push(name=shop.name("other/sslterm"))
    lab.run(labels=asks(image))
    begin().is_ready().says("expected an allowed image (--allow-image)")

    assert shop.asked("other/sslterm") == 0


def test_always_has_the_newest_for_each_new_sidecar(lab, shop, begin, engine):
    image = shop.push()
    engine.tag("sslterm", *image.rsplit(":", 1))
    old = engine.inspect_image(image)["Id"]
    newer = lab.image("newer=yes", of="sslterm")
    shop.push(newer, image)
    engine.tag("sslterm", *image.rsplit(":", 1))
    begin("--pull", "always").is_ready()
    www = lab.run(labels=asks(image))
    lab.becomes_served(www)
    (sidecar,) = lab.sidecars(www)

    assert sidecar["Image"] == newer != old


def test_a_registry_that_hangs_holds_up_nobody_else_nor_the_end(lab, shop, begin):
    image = shop.push()
    for number in range(10):  # more than there are workers
        lab.run(f"waits{number}", labels=asks(image))
    shop.hang()
    try:
        daemon = begin()
        daemon.says(f"Pull image {image}")
        www = lab.run()
        lab.becomes_served(www)
        begun = time.monotonic()
        code = daemon.stop()
        print(f"stopped in {time.monotonic() - begun:.1f} s, with a pull under way")
    finally:
        shop.go_on()

    assert code == 0
    assert daemon.saying("Stopped; every proxy container is left running")


def test_a_pull_that_was_cut_short_is_done_again(lab, shop, begin):
    image = shop.push()
    www = lab.run(labels=asks(image))
    shop.hang()
    daemon = begin()
    daemon.says(f"Pull image {image}")
    daemon.stop(9)
    shop.go_on()
    begin()

    lab.becomes_served(www, 60)


def test_by_hand_an_image_comes_too(lab, shop, tmp_path):
    image = shop.push()
    www = lab.run(asks=False)
    done = byfahrer(
        "inject", f"{lab.mark}-www", "--image", image, "--only-label", lab.scope, env=shop.configuration(tmp_path / "d")
    )

    assert done.code == 0, done.err
    assert f"Pulled image {image}" in done.err
    lab.becomes_served(www)


def test_a_broken_configuration_is_one_line_for_who_asks_and_waited_out_by_the_daemon(lab, shop, begin, tmp_path):
    (tmp_path / "config.json").write_text('{"auths": {"registry.example": {"auth": "@"}}}')
    broken = {"DOCKER_CONFIG": str(tmp_path)}
    www = lab.run()
    done = byfahrer("ps", env=broken)
    daemon = begin(env=broken)
    line = daemon.says("expected Docker's client configuration")
    (tmp_path / "config.json").write_text("{}")
    lab.becomes_served(www)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"byfahrer: {tmp_path}/config.json: expected Docker's client configuration: JSON")
    assert done.err.count("\n") == 1
    assert "trying again" in line
    assert not daemon.saying("Traceback")
