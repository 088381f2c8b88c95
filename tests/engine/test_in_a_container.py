"""byfahrer works in a container of its own, with the engine's socket mounted, and never serves itself."""

from __future__ import annotations

import socket
import ssl

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
    wait_until(lambda: b"unix:///engine.sock" in lab.api.logs(own))


def test_its_root_is_in_a_volume_and_outlives_its_container(lab, image):
    volumes = [lab.volume("state"), lab.volume("run")]
    binds = [
        "/var/run/docker.sock:/var/run/docker.sock",
        f"{volumes[0]}:/var/lib/byfahrer",
        f"{volumes[1]}:/run/byfahrer",
    ]

    def start():
        return lab.run(
            "byfahrer", "byfahrer", asks=False, environment={"BYFAHRER_ONLY_LABEL": lab.scope}, host={"binds": binds}
        )

    first = start()
    root = lab.execute(first, "byfahrer", "ca", "root")
    www = lab.run()
    lab.becomes_served(www)
    (before,) = lab.sidecars(www)
    trusted = ssl.create_default_context(cadata=root)
    with (
        socket.create_connection((lab.address(www), 8081), 5) as plain,
        trusted.wrap_socket(plain, server_hostname=f"{lab.mark}-www") as client,
    ):
        assert client.version() == "TLSv1.3"
    assert [(m["Name"], m["RW"]) for m in before["Mounts"] if m["Destination"] == "/run/byfahrer"] == [
        (volumes[1], False)
    ]
    assert b"ends with this container" not in lab.api.logs(first)
    lab.remove(first)
    second = start()
    wait_until(lambda: b"Connected to" in lab.api.logs(second))

    assert lab.execute(second, "byfahrer", "ca", "root") == root
    assert [each["Id"] for each in lab.sidecars(www)] == [before["Id"]]


def test_without_a_volume_of_a_name_it_warns_that_its_root_will_not_last(lab, image):
    own = lab.run(
        "byfahrer", "byfahrer", asks=False, environment={"BYFAHRER_ONLY_LABEL": lab.scope},
        host={"binds": ["/var/run/docker.sock:/var/run/docker.sock"]},
    )  # fmt: skip
    wait_until(lambda: b"give it a volume (-v byfahrer:/var/lib/byfahrer)" in lab.api.logs(own))
    lab.becomes_served(lab.run())
