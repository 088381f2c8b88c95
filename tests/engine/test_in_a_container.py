"""byfahrer works in a container of its own, with the engine's socket mounted, and never serves itself."""

from __future__ import annotations

import pytest
from docker.errors import NotFound

from lab.waiting import wait_until


@pytest.fixture
def image(engine):
    try:
        engine.inspect_image("byfahrer")
    except NotFound:
        pytest.fail("the image byfahrer is not on the engine: run `make images`", pytrace=False)


def test_it_serves_from_its_own_container_and_is_no_target(lab, image):
    own = lab.run(
        "byfahrer", "byfahrer", asks=True,
        environment={"BYFAHRER_ONLY_LABEL": lab.scope},
        host={"binds": ["/var/run/docker.sock:/var/run/docker.sock"]},
    )  # fmt: skip
    wait_until(lambda: b"Connected to" in lab.api.logs(own))
    www = lab.run()
    lab.becomes_served(www)

    assert lab.sidecars(own) == []
    lab.api.stop(own, timeout=5)
    assert lab.look(own)["State"]["ExitCode"] == 0
    assert lab.served(www)


def test_the_flag_of_2017_alone_means_run(lab, image):
    own = lab.run(
        "byfahrer", "byfahrer", asks=False, command=["--docker-host", "unix:///engine.sock"],
        environment={"BYFAHRER_ONLY_LABEL": lab.scope},
        host={"binds": ["/var/run/docker.sock:/engine.sock"]},
    )  # fmt: skip
    lab.becomes_served(lab.run())
    assert b"unix:///engine.sock" in lab.api.logs(own)
