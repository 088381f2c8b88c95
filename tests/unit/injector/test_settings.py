"""The operator's settings: read from what people write, refused in one line."""

from pathlib import Path

import pytest

from byfahrer import settings
from byfahrer.limits import Bound


def test_lists_may_be_repeated_or_written_with_commas():
    made = settings.policy(allow_image=("a, b", "c"), only_label=("k=v,l", "m="))

    assert [str(pattern) for pattern in made.allow_images] == ["a", "b", "c"]
    assert made.only_labels == (("k", "v"), ("l", None), ("m", ""))


@pytest.mark.parametrize(
    ("text", "size"), [("32m", 32 << 20), ("64MB", 64 << 20), ("1g", 1 << 30), ("67108864", 64 << 20)]
)
def test_memory_is_a_size(text, size):
    assert settings.policy(sidecar_memory=text).limits.memory == Bound(size, size)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sidecar_memory": "31m"}, "--sidecar-memory='31m': expected a size of at least 32m"),
        ({"sidecar_memory": "lots"}, "--sidecar-memory='lots': expected"),
        ({"sidecar_memory": ""}, "--sidecar-memory='': expected"),
        ({"sidecar_memory": "1g:256m"}, "--sidecar-memory='1g:256m': expected the most that a label may ask for"),
        ({"sidecar_pids": "0"}, "--sidecar-pids='0': expected a number from 16 to 4194304"),
        ({"sidecar_pids": "64:x"}, "--sidecar-pids='64:x': expected a number from 16"),
        (
            {"sidecar_cpus": "half"},
            "--sidecar-cpus='half': expected a number of CPUs such as 1.5, or 0 for no limit, and",
        ),
        ({"sidecar_cpus": "0:2"}, "--sidecar-cpus='0:2': expected the most that a label may ask for"),
        ({"allow_capability": ("NET",)}, "--allow-capability='NET': expected the name of a Linux capability"),
        ({"allow_capability": ("NET_RAW,ALL",)}, "--allow-capability='ALL': expected the name of a Linux capability"),
        ({"pull": "sometimes"}, "--pull='sometimes': expected missing, always, never"),
        ({"sidecar_log_driver": "a b"}, "--sidecar-log-driver='a b': expected the name of a log driver"),
        ({"sidecar_log_opt": ("max-size",)}, "--sidecar-log-opt='max-size': expected KEY=VALUE, such as max-size=10m"),
        ({"sidecar_log_opt": ("=secret",)}, "--sidecar-log-opt='': expected KEY=VALUE"),
        ({"sidecar_user": "a b"}, "--sidecar-user='a b': expected"),
        ({"sidecar_user": ""}, "--sidecar-user='': expected"),
        ({"only_label": ("=v",)}, "--only-label='=v': expected key=value"),
    ],
)
def test_nonsense_is_refused_in_one_line(given, says):
    with pytest.raises(settings.SettingError) as caught:
        settings.policy(**given)

    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_bounds_capabilities_and_the_log_are_as_the_operator_says():
    made = settings.policy(
        sidecar_memory="256m:1g", sidecar_pids="64", sidecar_cpus="0.5:2", allow_capability=("NET_RAW,cap_chown",),
        sidecar_log_driver="local", sidecar_log_opt=("labels=a,b", "tag={{.Name}}=x", "labels=c"), pull="always",
    )  # fmt: skip

    assert made.limits.memory == Bound(256 << 20, 1 << 30)
    assert made.limits.pids == Bound(64, 64)
    assert made.limits.cpus == Bound(500_000_000, 2_000_000_000)
    assert made.limits.capabilities == {"NET_RAW", "CHOWN"}
    assert (made.log.driver, dict(made.log.options)) == ("local", {"labels": "c", "tag": "{{.Name}}=x"})
    assert made.pull == "always"


def test_by_default_there_is_no_capability_no_driver_and_a_missing_image_is_pulled():
    made = settings.policy()

    assert (made.limits.capabilities, made.log.driver, made.log.options, made.pull) == (set(), "", (), "missing")
    assert (made.limits.pids, made.limits.cpus) == (Bound(64, 64), Bound(0, 0))


def test_what_a_log_driver_needs_is_never_shown():
    made = settings.policy(sidecar_log_opt=("splunk-token=s3cret",))

    assert "s3cret" not in repr(made)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1m30s", 90), ("5", 5)])
def test_the_resync_is_a_duration(text, seconds):
    assert settings.resync(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "500ms", "2h", "-1s"])
def test_a_resync_that_makes_no_sense_is_refused(text):
    with pytest.raises(settings.SettingError, match="--resync="):
        settings.resync(text)


ID = "0123456789abcdef" * 4
OTHER = "f" * 64


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        (f"12:pids:/docker/{ID}\n0::/\n", "", ID),
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        ("0::/\n", f"1 2 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw\n", ID),
        (f"3:cpu:/docker/{ID}\n", f"1 2 8:1 /var/lib/docker/containers/{OTHER}/hostname /etc/hostname rw\n", ID),
        ("0::/init.scope\n", "1 2 8:1 / / rw\n", ""),
        # What the host sees while a file is put into a container.
        ("0::/\n", f"1 2 8:1 /docker/containers/{ID}/hostname /docker/overlay2/x/merged/etc/hostname rw\n", ""),
        ("", "", ""),
    ],
)
def test_the_own_container_is_known(cgroup, mountinfo, expected):
    assert settings.own_container({"cgroup": cgroup, "mountinfo": mountinfo}) == expected
    assert settings.own_container({}) == ""


def authority(**given):
    return settings.authority(**{"run_dir": "/run/x", "state_dir": "/var/x"} | given)


def test_of_the_authority_little_has_to_be_said():
    made = authority()

    assert (made.run_dir, made.state_dir) == (Path("/run/x"), Path("/var/x"))
    assert (made.leaf_lifetime, made.trust_domain, made.permit_dns, made.ca_cert) == (86400, "", (), None)


@pytest.mark.parametrize("text", ["/run/x/../y/", "//run/y", "/run/./y"])
def test_a_folder_has_one_way_to_be_written(text):
    assert authority(run_dir=text).run_dir == Path("/run/y")


def test_the_authority_is_as_its_operator_says():
    made = authority(
        trust_domain="example.org", permit_dns=("Shop.example, a.example", "b"), leaf_lifetime="90d",
        ca_cert="/c.pem", ca_key="/k.pem",
    )  # fmt: skip

    assert made.permit_dns == ("shop.example", "a.example", "b")
    assert (made.leaf_lifetime, made.trust_domain) == (7776000, "example.org")
    assert (made.ca_cert, made.ca_key) == (Path("/c.pem"), Path("/k.pem"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ca_cert": "/c"}, "--ca-cert='/c': expected --ca-key beside it"),
        ({"ca_key": "/k"}, "--ca-key='/k': expected --ca-cert beside it"),
        ({"trust_domain": "Example.org"}, "--trust-domain='Example.org': expected a name such as example.org"),
        ({"trust_domain": "spiffe://x"}, "--trust-domain='spiffe://x': expected"),
        ({"leaf_lifetime": "1s"}, "--leaf-lifetime='1s': expected a duration from 1m to 90d"),
        ({"leaf_lifetime": "91d"}, "--leaf-lifetime='91d': expected"),
        ({"permit_dns": ("a b",)}, "--permit-dns='a b': expected a DNS domain"),
        ({"run_dir": "/" + "x" * 90}, "--run-dir="),
        ({"state_dir": ""}, "--state-dir='': expected a path to a folder"),
    ],
)
def test_nonsense_about_the_authority_is_refused_in_one_line(given, says):
    with pytest.raises(settings.SettingError) as caught:
        authority(**given)

    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("environ", "root", "expected"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, True, "/run/byfahrer"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, False, "/run/user/7/byfahrer"),
        ({"XDG_RUNTIME_DIR": "relative"}, False, "/home/x/run"),
        ({}, False, "/home/x/run"),
    ],
)
def test_sockets_go_where_the_system_keeps_them(environ, root, expected):
    assert settings.run_dir(environ, root=root, state_dir="/home/x") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", Path("/var/x/admin.sock")), ("none", None), ("unix:/run/x/status.sock", Path("/run/x/status.sock"))],
)
def test_status_is_told_in_the_state_folder_unless_said_otherwise(text, expected):
    assert settings.admin(text, state_dir="/var/x", shared=Path("/run/y")) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (":9090", "--admin-addr=':9090': expected unix:/path/to.sock or none"),
        ("unix:relative", "--admin-addr='unix:relative': expected unix:"),
        ("unix:/a\0b", "--admin-addr='unix:/a\\x00b': expected unix:"),
        ("unix:/run/y/s", "--admin-addr='unix:/run/y/s': expected a path outside of --run-dir, which sidecars get"),
        ("unix:/run/x/../y/s", "--admin-addr='unix:/run/x/../y/s': expected a path outside"),
    ],
)
def test_nobody_can_be_told_elsewhere_nor_where_sidecars_look(text, says):
    with pytest.raises(settings.SettingError) as caught:
        settings.admin(text, state_dir="/var/x", shared=Path("/run/y"))

    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("text", ["tasks.byfahrer_byfahrer:9443", "a:1", "10.0.0.1:65535"])
def test_peers_are_a_name_and_a_port(text):
    made = settings.authority(run_dir="/run/x", state_dir="/var/x", ca_file="/ca")

    assert settings.peers(text, made) == (text.rpartition(":")[0], int(text.rpartition(":")[2]))
    assert settings.peers("", None) is None


@pytest.mark.parametrize("text", ["tasks", ":9443", "a:", "a:0", "a:65536", "a b:1", "a:\uff11", "[::1]:9443", "-a:1"])
def test_other_peers_are_refused(text):
    made = settings.authority(run_dir="/run/x", state_dir="/var/x")
    with pytest.raises(settings.SettingError, match="expected host:port, such as"):
        settings.peers(text, made)


def test_peers_need_an_authority():
    with pytest.raises(settings.SettingError, match="--authority on"):
        settings.peers("a:1", None)
    with pytest.raises(settings.SettingError, match="--peers='a:1': expected --ca-file or --ca-cert beside it"):
        settings.peers("a:1", settings.authority(run_dir="/r", state_dir="/s"))


def test_a_shared_root_and_a_brought_one_are_one_too_many():
    with pytest.raises(settings.SettingError, match="--ca-file='/f': expected no --ca-cert"):
        settings.authority(run_dir="/run/x", state_dir="/var/x", ca_file="/f", ca_cert="/c", ca_key="/k")
