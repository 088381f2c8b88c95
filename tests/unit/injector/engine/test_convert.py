"""The engine's JSON becomes our data; anything may be missing in it."""

import pytest

from byfahrer import labels
from byfahrer.engine import convert
from byfahrer.engine.interface import Event
from byfahrer.model import Mount, Network, SidecarSpec, Status

RAW = {
    "Id": "a" * 64,
    "Name": "/www",
    "State": {
        "Status": "running", "Running": True, "Pid": 7, "ExitCode": 0,
        "StartedAt": "2026-11-22T23:03:05.262698356Z", "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Image": "sha256:1",
    "Config": {
        "Image": "httpcheck",
        "Labels": {"a": "b"},
        "Env": ["SSLTERM_MODE=tcp", "PASSWORD=secret", "LOG_LEVEL=info"],
    },
    "HostConfig": {"NetworkMode": "default"},
    "Mounts": [
        {"Type": "volume", "Name": "certs", "Source": "/var/lib/docker/volumes/certs/_data", "Destination": "/opt/ssl"},
        {"Type": "bind", "Source": "/srv", "Destination": "/data"},
        {"Type": "tmpfs", "Destination": "/tmp"},
    ],
}  # fmt: skip


def test_a_container_is_what_the_engine_says_of_it():
    made = convert.container(RAW)

    assert (made.id, made.name, made.image, made.labels) == ("a" * 64, "www", "httpcheck", {"a": "b"})
    assert (made.status, made.pid, made.alive) == (Status.RUNNING, 7, True)
    assert (made.started_at % 10**9, made.finished_at) == (262698356, 0)
    assert made.mounts == (
        Mount(kind="volume", source="certs", destination="/opt/ssl"),
        Mount(kind="bind", source="/srv", destination="/data"),
        Mount(kind="tmpfs", source="", destination="/tmp"),
    )


def test_it_says_its_names_and_addresses():
    made = convert.container(
        RAW
        | {"Config": {"Hostname": "web.example"}}
        | {
            "NetworkSettings": {
                "Networks": {
                    "shop": {"Aliases": ["web", "abc"], "IPAddress": "172.18.0.2", "GlobalIPv6Address": "fd00::2"},
                    "bridge": {"Aliases": None, "IPAddress": "172.17.0.2", "GlobalIPv6Address": ""},
                    "down": None,
                }
            }
        }
    )

    assert made.hostname == "web.example"
    assert made.networks == (
        Network(name="bridge", addresses=("172.17.0.2",)),
        Network(name="down"),
        Network(name="shop", aliases=("web", "abc"), addresses=("172.18.0.2", "fd00::2")),
    )


COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}


@pytest.mark.parametrize(
    ("own", "image", "expected"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}, {"a"}),
        ({"byfahrer.names": "bank"}, {}, set()),
        (COMPOSE | {"byfahrer.names": "bank", "org.qnib.x": "y", "a": "1"}, None,
         {*COMPOSE, "byfahrer.names", "org.qnib.x"}),
        # An image can say that it is somebody's service; so does one that compose has built, and then it is true.
        (COMPOSE, COMPOSE, set(COMPOSE)),
        (COMPOSE | {"com.docker.compose.config-hash": "x"}, COMPOSE | {"com.docker.compose.config-hash": "x"},
         {*COMPOSE, "com.docker.compose.config-hash"}),
        (COMPOSE | {"com.docker.compose.config-hash": "x"}, COMPOSE | {"com.docker.compose.config-hash": "y"}, set()),
        (COMPOSE | {"com.docker.compose.config-hash": "x", "a": "1"}, COMPOSE | {"a": "1"}, {"a"}),
    ],
)  # fmt: skip
def test_what_the_image_says_already_is_inherited(own, image, expected):
    assert convert.container(RAW | {"Config": {"Labels": own}}, image).inherited == expected


def test_whether_a_mount_can_be_written_to_is_known():
    mounts = [{"Type": "volume", "Name": "v", "Destination": "/v", "RW": flag} for flag in (True, False)]

    assert [each.writable for each in convert.container(RAW | {"Mounts": mounts}).mounts] == [True, False]


def test_an_event_of_a_network_is_its_containers():
    raw = {"Type": "network", "Action": "connect", "Actor": {"ID": "n", "Attributes": {"container": "c", "name": "x"}}}

    assert convert.event(raw) == Event(kind="network", action="connect", id="c")
    assert convert.event(raw | {"Actor": {"ID": "n", "Attributes": {"name": "x"}}}) is None


def test_of_the_environment_only_a_sidecars_settings_are_kept():
    assert convert.container(RAW).env == {"SSLTERM_MODE": "tcp", "LOG_LEVEL": "info"}
    assert "secret" not in repr(convert.container(RAW))


def test_what_is_missing_has_a_harmless_value():
    made = convert.container({"Id": "a" * 64})

    assert (made.name, made.status, made.alive) == ("a" * 12, Status.UNKNOWN, False)


def test_a_status_of_a_future_engine_is_unknown():
    assert convert.container(RAW | {"State": {"Status": "hibernating"}}).status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:00.5Z", 5 * 10**8),
        ("1970-01-01T01:00:00.000000001+01:00", 1),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
        (None, 0),
        ("yesterday", 0),
    ],
)
def test_times_keep_their_nanoseconds(text, expected):
    assert convert.nanoseconds(text) == expected


def test_a_list_entry_has_its_own_name_first():
    made = convert.summary({"Id": "a", "Names": ["/other/www", "/www"], "State": "exited", "Labels": None})

    assert (made.name, made.status, made.labels) == ("www", Status.EXITED, {})


@pytest.mark.parametrize(
    ("endpoint", "addresses"),
    [
        (
            {"VirtualIPs": [{"Addr": "10.0.2.2/24"}, {"Addr": "10.0.1.9/24"}, {"NetworkID": "n"}]},
            ("10.0.1.9", "10.0.2.2"),
        ),
        ({"Spec": {"Mode": "dnsrr"}}, ()),
        (None, ()),
    ],
)
def test_a_service_has_labels_and_virtual_addresses(endpoint, addresses):
    made = convert.service({"ID": "s", "Spec": {"Labels": {"a": "b"}}, "Endpoint": endpoint})

    assert (made.labels, made.addresses) == ({"a": "b"}, addresses)


@pytest.mark.parametrize(
    ("swarm", "role"),
    [
        ({"LocalNodeState": "inactive"}, "none"),
        ({"LocalNodeState": "active", "ControlAvailable": True}, "manager"),
        ({"LocalNodeState": "active", "ControlAvailable": False}, "worker"),
        (None, "none"),
    ],
)
def test_the_engine_says_who_it_is(swarm, role):
    info = {"Name": "n", "ServerVersion": "20.10", "SystemTime": "1970-01-01T00:00:02.000000003Z", "Swarm": swarm}
    made = convert.engine_info(info, "1.41")

    assert (made.name, made.version, made.api_version, made.role, made.now) == (
        "n",
        "20.10",
        "1.41",
        role,
        "2.000000003",
    )


CONFINED = {
    "ReadonlyRootfs": True, "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "PidMode": "",
    "IpcMode": "private", "Privileged": False, "Mounts": [{"Type": "bind"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("host", "freedoms"),
    [
        ({}, ()),
        ({"CapDrop": ["CAP_ALL"], "SecurityOpt": ["no-new-privileges:true"]}, ()),
        ({"Privileged": True}, ("privileged",)),
        ({"ReadonlyRootfs": False}, ("a writable root",)),
        ({"CapDrop": None}, ("capabilities",)),
        ({"CapAdd": ["NET_ADMIN"]}, ()),  # which those are is told beside
        ({"SecurityOpt": None}, ("new privileges",)),
        ({"PidMode": "host"}, ("another pid namespace",)),
        ({"IpcMode": "container:x"}, ("another ipc namespace",)),
        ({"Devices": [{}]}, ("devices",)),
        ({"Binds": ["/:/host"]}, ("binds",)),
        ({"VolumesFrom": ["x"]}, ("binds",)),
    ],
)
def test_what_a_container_may_do_beyond_a_sidecar_is_named(host, freedoms):
    made = convert.container(RAW | {"HostConfig": CONFINED | host})

    assert made.freedoms == freedoms


def test_the_user_is_the_one_asked_for():
    assert convert.container(RAW | {"Config": {"User": "1:2"}}).user == "1:2"
    assert convert.container(RAW).user == ""


def test_events_that_are_none_are_nothing():
    good = {"Type": "container", "Action": "start", "Actor": {"ID": "a"}}

    assert convert.event(good) is not None
    for bad in ({}, good | {"Actor": None}, good | {"Actor": {"ID": ""}}, good | {"Action": 1}):
        assert convert.event(bad) is None


def test_of_an_event_is_kept_whom_it_concerns_and_not_all_that_an_image_carries():
    target = "e" * 64
    carried = {"image": "x", "name": "y", "byfahrer.target": target, "com.docker.swarm.service.id": "s"}
    carried |= {f"byfahrer.{number}": "long" * 1000 for number in range(1000)}
    raw = {"Type": "container", "Action": "start", "Actor": {"ID": "a", "Attributes": carried}}
    found = convert.event(raw)

    assert labels.claim(found.labels) == target
    assert labels.mentions(found.labels)
    assert len(found.labels) <= 3
    assert convert.event(raw, ["image", "not-there"]).labels == {**found.labels, "image": "x"}
    assert sum(map(len, found.labels.values())) < 100


@pytest.mark.parametrize(
    ("raw", "signal"),
    [
        ({"Action": "kill", "Actor": {"ID": "a", "Attributes": {"signal": "15"}}}, "15"),
        ({"Action": "kill", "Actor": {"ID": "a"}}, ""),
        ({"Action": "kill", "Actor": {"ID": "a", "Attributes": {"signal": 15}}}, ""),
        ({"Action": "start", "Actor": {"ID": "a", "Attributes": {"signal": "15"}}}, ""),
    ],
)
def test_a_kill_says_with_which_signal(raw, signal):
    assert convert.event({"Type": "container", **raw}).signal == signal


def test_events_of_images_and_services_say_where_to_look():
    for kind, action in (("image", "tag"), ("service", "update")):
        raw = {"Type": kind, "Action": action, "Actor": {"ID": "a", "Attributes": {"name": "b", "byfahrer.x": ""}}}

        assert convert.event(raw) == Event(kind=kind, action=action, id="a")


def test_a_sidecar_is_confined():
    spec = SidecarSpec(image="sslterm", env=(("A", "b"),), user="1:2", memory=5, pids=6, stop_timeout=7)
    host = convert.host_arguments("f" * 64, spec)
    more = convert.container_arguments(spec, {"l": "m"})

    assert host == {
        "network_mode": "container:" + "f" * 64,
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": [],
        "security_opt": ["no-new-privileges"],
        "pids_limit": 6,
        "mem_limit": 5,
        "memswap_limit": 5,
        "nano_cpus": 0,
        "shm_size": 1024**2,
        "init": False,
        "restart_policy": {"Name": "no"},
        "log_config": None,
    }
    assert (more["user"], more["environment"], more["labels"], more["stop_timeout"]) == (
        "1:2",
        {"A": "b"},
        {"l": "m"},
        7,
    )
    assert more["healthcheck"] == {"interval": 120 * 10**9}


@pytest.mark.parametrize(
    ("added", "found"),
    [
        (None, ()),
        (["NET_RAW", "CAP_NET_ADMIN"], ("NET_ADMIN", "NET_RAW")),
        (["CAP_NET_RAW", "net_raw"], ("NET_RAW",)),
        (["ALL"], ("ALL",)),
    ],
)
def test_capabilities_are_known_however_an_engine_writes_them(added, found):
    assert convert.container(RAW | {"HostConfig": CONFINED | {"CapAdd": added}}).capabilities == found


def test_a_sidecar_gets_what_its_spec_says_and_no_more():
    spec = SidecarSpec(image="sslterm", user="0:1", memory=5, cpus=1_500_000_000, capabilities=("NET_ADMIN", "NET_RAW"))
    host = convert.host_arguments("f" * 64, spec)

    assert (host["cap_drop"], host["cap_add"]) == (["ALL"], ["NET_ADMIN", "NET_RAW"])
    assert host["nano_cpus"] == 1_500_000_000


@pytest.mark.parametrize(
    ("engines", "driver", "options", "expected"),
    [
        ("", "", {}, None),
        ("journald", "", {}, None),
        ("json-file", "", {}, ("json-file", {"max-size": "10m", "max-file": "3"})),
        ("json-file", "", {"max-size": "-1"}, ("json-file", {"max-size": "-1"})),
        ("json-file", "", {"max-file": "9"}, ("json-file", {"max-size": "10m", "max-file": "9"})),
        ("json-file", "local", {}, ("local", {})),
        ("json-file", "none", {}, ("none", {})),
        (
            "journald",
            "json-file",
            {"labels": "a,b"},
            ("json-file", {"max-size": "10m", "max-file": "3", "labels": "a,b"}),
        ),
        ("journald", "", {"tag": "x"}, ("journald", {"tag": "x"})),
        ("", "", {"tag": "x"}, ("", {"tag": "x"})),
    ],
)
def test_no_log_grows_for_ever_unless_its_operator_says_so(engines, driver, options, expected):
    spec = SidecarSpec(image="a", user="1", memory=5, log_driver=driver, log_options=tuple(sorted(options.items())))
    made = convert.host_arguments("f" * 64, spec, engines)["log_config"]

    assert made == (expected and {"type": expected[0], "config": expected[1]})


def test_one_that_reports_to_the_authority_is_not_probed():
    spec = SidecarSpec(
        image="sslterm", env=(("SSLTERM_AUTHORITY", "/run/byfahrer/authority.sock"),), user="1", memory=5
    )

    assert convert.container_arguments(spec, {})["healthcheck"] == {"test": ["NONE"]}


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (b"", ""),
        (
            b"2026-11-25T02:29:12Z ERROR frontend-addr=:8081: already in use\n",
            "ERROR frontend-addr=:8081: already in use",
        ),
        (b'{"time": "2026-11-25T02:29:12.001Z", "level": "error", "message": "already in use"}\n', "already in use"),
        (b'{"time": 7}\n', '{"time": 7}'),
        (b'{"message": [1]}\n', '{"message": [1]}'),
        (b"{broken\n", "{broken"),
        (b"plain \xff words\n", "plain \ufffd words"),
        (b"x" * 1000, "x" * 300),
        (b'{"a":' * 5000, '{"a":' * 60),
        (b"{" + b"[" * 10**6, "{" + "[" * 299),
        (b'{"message":' + b"[" * 10**4, '{"message":' + "[" * 289),
    ],
)
def test_last_words_are_the_same_whenever_they_are_said(log, words):
    assert convert.words(log) == words


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ({"Memory": 8 << 30, "PidsLimit": 64, "NanoCpus": 10**9}, (8 << 30, 64, 10**9)),
        ({"Memory": 0, "PidsLimit": -1, "NanoCpus": 0}, (0, -1, 0)),
        ({"PidsLimit": None}, (0, 0, 0)),
    ],
)
def test_what_it_may_use_is_what_the_engine_was_told(host, found):
    made = convert.container(RAW | {"HostConfig": host})

    assert (made.memory, made.pids, made.cpus) == found
