"""What labels ask for beside sslterm's settings: the authority, more names, client authorities, a volume for ACME."""

import time

import pytest

from byfahrer import labels, settings
from byfahrer.model import Container, Mount, SidecarSpec, Status
from byfahrer.spec import leaf_lifetime, names, sidecar_spec

AUTHORITY = Mount(kind="volume", source="byfahrer-run", destination="/run/byfahrer")
PRIVATE = Mount(kind="volume", source="", destination="/run/sslterm", writable=True)

BOUNDS = settings.policy().limits


def made(own=None, *, image="sslterm", authority=AUTHORITY, **fields):
    """The spec for a target with these labels, or what is wrong with them."""
    carried = {"byfahrer.proxy-image": image, **{f"byfahrer.{name}": value for name, value in (own or {}).items()}}
    target = Container(
        id="a" * 64, name="www", image="app", status=Status.RUNNING, **{"labels": carried} | fields
    )  # fmt: skip
    found = sidecar_spec(labels.collect(carried), target, user="1:1", bounds=BOUNDS, authority=authority)
    return found if isinstance(found, SidecarSpec) else [str(error) for error in found]


def test_a_sidecar_reaches_the_authority_by_its_socket_and_a_token():
    spec = made()

    assert dict(spec.env) == {
        "SSLTERM_AUTHORITY": "/run/byfahrer/authority.sock",
        "SSLTERM_AUTHORITY_TOKEN": "/run/sslterm/token",
        "SSLTERM_HAND_OVER": "on",
    }
    assert spec.mounts == (AUTHORITY, PRIVATE)


@pytest.mark.parametrize("image", ["gosslterm", "qnib/gosslterm:1", "registry.example.com/x/gosslterm-alpine"])
def test_an_image_of_2017_gets_neither_and_shares_no_port(image):
    assert (made(image=image).env, made(image=image).mounts) == ((), ())


def test_without_an_authority_nothing_of_it_is_given():
    assert (made(authority=None).env, made(authority=None).mounts) == ((("SSLTERM_HAND_OVER", "on"),), ())


@pytest.mark.parametrize(
    ("own", "grants", "drain", "stop"),
    [
        ({}, None, None, 10),
        ({}, 30, "28s", 30),
        ({}, 1, "1s", 3),
        ({}, 0, "1s", 3),
        ({}, -1, None, 10),
        ({}, 10**9, "86400s", 86402),
        ({"drain-timeout": "5s"}, 30, "5s", 7),
    ],
)
def test_a_sidecar_drains_for_as_long_as_its_target_may_take_to_stop_unless_a_label_says_otherwise(
    own, grants, drain, stop
):
    spec = made(own, stop_timeout=grants)

    assert (dict(spec.env).get("SSLTERM_DRAIN_TIMEOUT"), spec.stop_timeout) == (drain, stop)


def test_no_label_asks_for_a_drain_of_more_than_a_day():
    assert made({"drain-timeout": "24h"}).stop_timeout == 86402
    (error,) = made({"drain-timeout": "8760h"})

    assert str(error) == "byfahrer.drain-timeout='8760h': expected a duration of at most 24h"


def test_an_image_of_2017_is_told_of_no_drain():
    assert made(image="gosslterm", stop_timeout=30).env == ()


def test_who_demands_client_certificates_says_whose():
    assert made({"client-auth": "required"}) == [
        (
            "byfahrer.client-auth='required': expected byfahrer.allow beside it, with the names that may call, "
            "or byfahrer.allow=all for any valid certificate"
        )
    ]
    assert dict(made({"client-auth": "required", "allow": "web"}).env)["SSLTERM_ALLOW"] == "web"


def test_without_an_authority_client_certificates_need_authorities_of_their_own():
    (error,) = made({"client-auth": "optional"}, authority=None)

    assert error.startswith("byfahrer.client-auth='optional': expected byfahrer.client-ca beside it")


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"allow": "web"}, "byfahrer.allow='web': expected byfahrer.client-auth=required or optional beside it"),
        ({"send-proxy": "v2"}, "byfahrer.send-proxy='v2': expected byfahrer.mode=tcp beside it"),
        ({"acme": "a.example", "acme-challenge": "http-01"}, "expected byfahrer.redirect beside it, such as :80"),
        ({"names": "a b"}, "byfahrer.names='a b': expected DNS names and IP addresses between commas"),
        ({"names": "x.*"}, "byfahrer.names='x.*': expected DNS names"),
        ({"leaf-lifetime": "59s"}, "byfahrer.leaf-lifetime='59s': expected a duration from 1m to 90d such as 12h"),
        ({"leaf-lifetime": "91d"}, "byfahrer.leaf-lifetime='91d': expected a duration"),
        ({"nams": "a"}, "byfahrer.nams='a': there is no such label; did you mean byfahrer.names?"),
    ],
)
def test_what_is_wrong_is_said_in_labels(own, says):
    (error,) = made(own)

    assert says in error


@pytest.mark.parametrize("name", ["names", "allow", "trusted-proxies", "acme", "leaf-lifetime", "frontend", "x"])
def test_a_label_of_many_megabytes_is_refused_at_once(name):
    value = ",".join(["10.0.0.1"] * 300_000)
    began = time.process_time()
    (error,) = made({name: value, "client-auth": "required"})
    with pytest.raises(ValueError, match="10"):
        names(value)
    assert time.process_time() - began < 1
    assert error.endswith(": expected at most 16384 characters")
    assert len(error) < 300


def test_names_and_lifetimes_are_the_authoritys_and_renew_no_sidecar():
    assert made({"names": "a.example, *.b.example,10.0.0.1", "leaf-lifetime": "90d"}) == made()


def test_names_and_lifetimes_are_read_as_written():
    assert names(" A.example,*.b, fd00::1,a.example ") == ("a.example", "*.b", "fd00::1")
    assert [leaf_lifetime(text) for text in ("1m", "12h", "90d", "1.5h")] == [60, 43200, 7776000, 5400]


def test_client_authorities_come_from_the_targets_own_mounts():
    spec = made(
        {"client-auth": "required", "allow": "all", "client-ca": "/conf/tls/clients.pem"},
        mounts=(Mount(kind="bind", source="/srv/conf", destination="/conf", writable=True),),
    )

    assert dict(spec.env)["SSLTERM_CLIENT_CA"] == "/run/target-ca/tls/clients.pem"
    assert spec.mounts[0] == Mount(kind="bind", source="/srv/conf", destination="/run/target-ca")


@pytest.mark.parametrize("path", ["clients.pem", "", "/other/ca.pem", "/conf/../etc/ca.pem", "/run/docker.sock"])
def test_client_authorities_from_anywhere_else_are_refused(path):
    (error, *_) = made(
        {"client-auth": "required", "allow": "all", "client-ca": path},
        mounts=(
            Mount(kind="bind", source="/srv/conf", destination="/conf"),
            Mount(kind="bind", source="/var/run/docker.sock", destination="/run/docker.sock"),
        ),
    )

    assert error.startswith(f"byfahrer.client-ca={path!r}: expected ")


@pytest.mark.parametrize(
    ("fields", "volume"),
    [
        ({}, "byfahrer-acme-www"),
        ({"name": "web.1.x1y2", "labels": {"com.docker.swarm.service.name": "web"}}, "byfahrer-acme.swarm-web"),
        ({"name": "swarm.web"}, "byfahrer-acme-swarm.web"),
        (
            {
                "labels": {"com.docker.swarm.service.name": "web"},
                "inherited": frozenset({"com.docker.swarm.service.name"}),
            },
            "byfahrer-acme-www",
        ),
        ({"labels": {"com.docker.swarm.service.name": "../x"}}, "byfahrer-acme-www"),
    ],
)
def test_acme_certificates_are_kept_for_whoever_comes_in_the_targets_place(fields, volume):
    carried = {"byfahrer.proxy-image": "sslterm", "byfahrer.acme": "www.example.org"}
    target = Container(**{"id": "a" * 64, "name": "www", "image": "app", "status": Status.RUNNING, **fields})
    spec = sidecar_spec(labels.collect(carried), target, user="1:1", bounds=BOUNDS)

    assert spec.mounts == (Mount(kind="volume", source=volume, destination="/var/lib/sslterm", writable=True),)
    assert dict(spec.env)["SSLTERM_ACME_DIR"] == "/var/lib/sslterm/acme"
