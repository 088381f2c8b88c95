"""What labels may ask for: read, held against the operator's bounds, and refused in one line that names both."""

import pytest

from byfahrer import labels, limits, settings
from byfahrer.labels import Annotation
from byfahrer.limits import NANO, Bound
from byfahrer.model import Container, SidecarSpec, Status

MEMORY, PIDS, CPUS = limits.RESOURCES


def notes(**given):
    return {name.replace("_", "-"): Annotation(f"byfahrer.{name.replace('_', '-')}", v) for name, v in given.items()}


@pytest.mark.parametrize(
    ("resource", "text", "value"),
    [
        (MEMORY, "32m", 32 << 20),
        (MEMORY, "64MB", 64 << 20),
        (MEMORY, "1g", 1 << 30),
        (MEMORY, "67108864", 64 << 20),
        (PIDS, "16", 16),
        (PIDS, "4194304", 4194304),
        (CPUS, "0", 0),
        (CPUS, "0.01", NANO // 100),
        (CPUS, "1.5", 1_500_000_000),
        (CPUS, "64", 64 * NANO),
    ],
)
def test_a_resource_is_a_number_of_its_own_kind(resource, text, value):
    assert resource.read(text) == value


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        *((MEMORY, text) for text in ("", "31m", "lots", "-1", "1t", "1.5g", "0", "9999999999g", "٣٢m", "64m:1g")),
        *((PIDS, text) for text in ("", "0", "15", "-1", "4194305", "64.0", "many", "9" * 5000, "٦٤")),
        *((CPUS, text) for text in ("", "-1", "0.001", "0.009", "1,5", ".5", "1.", "1.2345", "nan", "inf", "1e3")),
    ],
)
def test_what_is_none_is_refused(resource, text):
    with pytest.raises(ValueError):
        resource.read(text)


@pytest.mark.parametrize(
    ("resource", "value", "text"),
    [
        (MEMORY, 1 << 30, "1g"),
        (MEMORY, 256 << 20, "256m"),
        (MEMORY, (64 << 20) + 1024, "65537k"),
        (MEMORY, (64 << 20) + 1, "67108865"),
        (PIDS, 64, "64"),
        (CPUS, 1_500_000_000, "1.5"),
        (CPUS, 0, "0"),
    ],
)
def test_a_value_is_written_as_it_is_read(resource, value, text):
    assert resource.write(value) == text
    assert resource.read(text) == value


@pytest.mark.parametrize(
    ("resource", "text", "bound"),
    [
        (MEMORY, "64m", Bound(64 << 20, 64 << 20)),
        (MEMORY, "64m:1g", Bound(64 << 20, 1 << 30)),
        (MEMORY, "64m:64m", Bound(64 << 20, 64 << 20)),
        (PIDS, "64:128", Bound(64, 128)),
        (CPUS, "0", Bound(0, 0)),
        (CPUS, "0.5:2", Bound(NANO // 2, 2 * NANO)),
        (CPUS, "0.5:0", Bound(NANO // 2, 0)),
    ],
)
def test_a_bound_is_a_default_and_the_most_that_a_label_may_ask_for(resource, text, bound):
    assert resource.bound(text) == bound


@pytest.mark.parametrize(
    ("resource", "text", "says"),
    [
        (MEMORY, "64m:32m", "the most that a label may ask for"),
        (PIDS, "64:63", "the most that a label may ask for"),
        (CPUS, "0:2", "the most that a label may ask for"),
        (MEMORY, "64m:", "a size of at least 32m"),
        (MEMORY, ":1g", "a size of at least 32m"),
        (MEMORY, "64m:1g:2g", "a size of at least 32m"),
        (CPUS, "1:x", "a number of CPUs such as 1.5"),
    ],
)
def test_a_bound_that_is_none_says_what_would_be(resource, text, says):
    with pytest.raises(ValueError, match=says):
        resource.bound(text)


def test_less_may_always_be_asked_for_and_no_limit_only_where_there_is_none():
    assert Bound(5, 5).allows(1)
    assert not Bound(5, 5).allows(6)
    assert not Bound(5, 5).allows(0)
    assert Bound(0, 0).allows(10**12)
    assert Bound(5, 0).allows(0)


@pytest.mark.parametrize("text", ["NET_RAW", "CAP_NET_RAW", "net_raw", " cap_net_raw "])
def test_a_capability_may_be_written_as_people_do(text):
    assert limits.capability(text) == "NET_RAW"


@pytest.mark.parametrize("text", ["", "ALL", "all", "CAP_ALL", "CAP_", "NET", "CAP_CAP_NET_RAW", "NET_RAW,NET_ADMIN"])
def test_what_is_no_capability_is_refused(text):
    with pytest.raises(ValueError):
        limits.capability(text)


def test_capabilities_come_once_and_in_order():
    assert limits.asked(notes(cap_add="NET_RAW, CAP_CHOWN,net_raw"))[1] == ("CHOWN", "NET_RAW")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"memory": "lots"}, "byfahrer.memory='lots': expected a size of at least 32m, such as 128m or 1g"),
        ({"pids": "1"}, "byfahrer.pids='1': expected a number from 16 to 4194304, such as 64"),
        ({"cpus": "-1"}, "byfahrer.cpus='-1': expected a number of CPUs such as 1.5, or 0 for no limit"),
        (
            {"cap_add": "NET_RAW,ALL"},
            "byfahrer.cap-add='NET_RAW,ALL': expected names of Linux capabilities between commas, such as NET_RAW",
        ),
        ({"cap_add": ""}, "byfahrer.cap-add='': expected names of Linux capabilities"),
        ({"cap_add": "NET_RAW,"}, "byfahrer.cap-add='NET_RAW,': expected names of Linux capabilities"),
    ],
)
def test_a_label_that_cannot_be_understood_is_told_in_one_line(given, says):
    *_, errors = limits.asked(notes(**given))

    assert len(errors) == 1
    assert str(errors[0]).startswith(says)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"memory": "2g"}, "byfahrer.memory='2g': expected at most 1g (--sidecar-memory)"),
        ({"pids": "65"}, "byfahrer.pids='65': expected at most 64 (--sidecar-pids)"),
        ({"cpus": "1.6"}, "byfahrer.cpus='1.6': expected at most 1.5 (--sidecar-cpus)"),
        ({"cpus": "0"}, "byfahrer.cpus='0': expected at most 1.5 (--sidecar-cpus)"),
        (
            {"cap_add": "NET_RAW,KILL"},
            "byfahrer.cap-add='NET_RAW,KILL': expected allowed capabilities (--allow-capability): NET_ADMIN, NET_RAW",
        ),
    ],
)
def test_what_goes_beyond_the_bounds_is_told_with_what_is_allowed_and_the_operators_flag(given, says):
    policy = settings.policy(
        sidecar_memory="256m:1g", sidecar_cpus="1:1.5", allow_capability=("NET_RAW", "cap_net_admin")
    )
    found = notes(**given)
    resources, capabilities, errors = limits.asked(found)
    spec = SidecarSpec(
        image="a", user="1", capabilities=capabilities, **{"memory": 1, "pids": 1, "cpus": 1} | resources
    )

    assert errors == []
    assert limits.forbidden(found, spec, policy.limits) == [says]


def test_no_capability_is_allowed_unless_the_operator_says_so():
    spec = SidecarSpec(image="a", user="0:0", memory=1, capabilities=("NET_RAW",))

    (line,) = limits.forbidden(notes(cap_add="NET_RAW"), spec, settings.policy().limits)
    assert line.endswith("expected allowed capabilities (--allow-capability): none")


def test_every_label_of_it_is_known():
    assert {each.label for each in limits.RESOURCES} | {labels.CAP_ADD} <= labels.OTHERS


@pytest.mark.parametrize(
    ("user", "root"), [("64443:64443", "0:64443"), ("12345", "0:12345"), ("0:0", "0:0"), ("a:b", "0:0"), ("1:b", "0:0")]
)
def test_root_keeps_the_group_by_which_it_gets_at_the_authority(user, root):
    assert limits.as_root(user) == root


@pytest.mark.parametrize(
    ("has", "exceeds"),
    [
        ({"memory": 512 << 20, "pids": 64, "cpus": NANO}, False),
        ({"memory": (512 << 20) + 1}, True),
        ({"pids": 65}, True),
        ({"cpus": 16 * NANO}, False),
        ({"memory": 0, "pids": -1}, False),
    ],
)
def test_one_that_exists_is_held_against_the_bounds_of_today(has, exceeds):
    bounds = limits.Limits(memory=Bound(256 << 20, 512 << 20), pids=Bound(64, 64), cpus=Bound(0, 0))
    sidecar = Container(id="b" * 64, name="www-proxy", image="sslterm", status=Status.RUNNING, **has)

    assert limits.exceeds(sidecar, bounds) is exceeds


def test_cpus_are_held_against_a_bound_where_there_is_one():
    bounds = limits.Limits(memory=Bound(1, 1), pids=Bound(1, 1), cpus=Bound(NANO, NANO))
    sidecar = Container(id="b" * 64, name="www-proxy", image="sslterm", status=Status.RUNNING, cpus=2 * NANO)

    assert limits.exceeds(sidecar, bounds)
