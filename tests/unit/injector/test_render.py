"""Sidecars as compose services, on an engine in memory; that compose takes them is in tests/engine."""

import pytest
import yaml

from byfahrer import render, settings
from byfahrer.engine.convert import host_arguments
from byfahrer.labels import wish_by_hand
from byfahrer.manual import ManualError
from byfahrer.model import Mount, SidecarSpec, Status
from lab.memory_engine import MemoryEngine

pytestmark = pytest.mark.anyio
ASKS = {"byfahrer.proxy-image": "sslterm"}
COMPOSED = {"com.docker.compose.service": "web", "com.docker.compose.project": "shop"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def engine():
    return MemoryEngine()


async def rendered(engine, *names, wish=(), **policy):
    found = [await render.wanted(engine, settings.policy(**policy), name, dict(wish)) for name in names]
    return render.compose(found)


async def services(engine, *names, **more):
    return yaml.safe_load(await rendered(engine, *names, **more))["services"]


async def test_a_sidecar_is_confined_as_byfahrer_confines_it(engine):
    engine.run("www", ASKS | {"byfahrer.mode": "tcp", "byfahrer.frontend": ":443"}, stop_timeout=4)
    made = await services(engine, "www", sidecar_memory="100m", sidecar_user="7:8")

    assert list(made) == ["www-proxy"]
    www = made["www-proxy"]
    assert www.pop("environment").items() >= {"SSLTERM_MODE": "tcp", "SSLTERM_FRONTEND_ADDR": ":443"}.items()
    assert www.pop("stop_grace_period").endswith("s")
    assert www == {
        "image": "sslterm", "network_mode": "container:www", "user": "7:8", "restart": "unless-stopped",
        "read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "pids_limit": 64,
        "mem_limit": "100m", "memswap_limit": "100m", "shm_size": "1m", "init": False,
    }  # fmt: skip


async def test_how_to_restart_both_is_said(engine):
    engine.run("www", ASKS)
    text = " ".join(line.lstrip("# ") for line in (await rendered(engine, "www")).splitlines())

    assert (
        "Restart the target first, then the sidecar; or make both anew (docker-compose up -d --force-recreate)" in text
    )


async def test_whatever_the_engine_is_told_of_a_sidecar_compose_is_told_too(engine):
    spec = SidecarSpec(
        image="sslterm", user="0", memory=2**25 + 1, cpus=500_000_000, capabilities=("NET_BIND_SERVICE",),
        log_driver="json-file", log_options=(("max-size", "1m"),),
    )  # fmt: skip
    target = engine.all[engine.run("www")]
    made = render.service(render.Wanted(target, spec))

    assert made.keys() >= host_arguments(target.id, spec).keys() - {"restart_policy", "nano_cpus", "log_config"}
    assert made["cpus"] == 0.5
    assert made["cap_add"] == ["NET_BIND_SERVICE"]
    assert made["mem_limit"] == "33554433b"
    assert made["logging"] == {"driver": "json-file", "options": {"max-size": "1m"}}


async def test_a_target_of_compose_is_joined_by_its_service_unless_only_its_image_says_so(engine):
    engine.run("shop_web_1", ASKS | COMPOSED)
    engine.run("other", ASKS | COMPOSED, inherited=frozenset(COMPOSED))
    text = await rendered(engine, "shop_web_1", "other")
    made = yaml.safe_load(text)["services"]

    assert made["shop_web_1-proxy"]["network_mode"] == "service:web"
    assert made["other-proxy"]["network_mode"] == "container:other"
    assert text.count("# For the service web of the project shop: ") == 1


async def test_what_compose_would_take_for_a_variable_and_yaml_for_something_else_stays_text(engine):
    engine.run("www", ASKS | {"byfahrer.allow": "all", "byfahrer.client-auth": "required",
                              "byfahrer.client-ca": "/ca/$HOME/${x}/#: x.pem"},
               mounts=(Mount(kind="bind", source="/srv/$ca: 'x", destination="/ca"),))  # fmt: skip
    www = (await services(engine, "www"))["www-proxy"]

    assert www["environment"]["SSLTERM_CLIENT_CA"].endswith("/$$HOME/$${x}/#: x.pem")
    assert www["volumes"][0]["source"] == "/srv/$$ca: 'x"
    assert www["volumes"][0]["read_only"] is True


async def test_volumes_that_are_there_are_not_made_anew_and_that_of_acme_may_be(engine):
    engine.run("www", {**ASKS, "org.qnib.gosslterm.ssl.volume.from": "true"},
               mounts=(Mount(kind="volume", source="keys", destination="/opt/qnib/ssl", writable=True),))  # fmt: skip
    engine.run("shop", ASKS | {"byfahrer.acme": "shop.example.org"})
    made = yaml.safe_load(await rendered(engine, "www", "shop"))

    assert made["volumes"] == {
        "keys": {"external": True, "name": "keys"},
        "byfahrer-acme-shop": {"name": "byfahrer-acme-shop"},
    }
    assert made["services"]["www-proxy"]["volumes"] == [
        {"type": "volume", "source": "keys", "target": "/run/target-ssl", "read_only": True}
    ]


async def test_a_target_need_not_run_nor_have_labels_nor_lack_a_sidecar(engine):
    stopped = engine.run("stopped", ASKS)
    engine.down(stopped)
    engine.run("plain")
    made = await services(engine, "stopped")
    by_hand = await services(engine, "plain", wish=wish_by_hand("sslterm:2", {"mode": "tcp"}))

    assert "stopped-proxy" in made
    assert by_hand["plain-proxy"]["image"] == "sslterm:2"
    assert engine.all[stopped].status is Status.EXITED
    assert not engine.calls.keys() & {"create", "start"}


async def test_nothing_of_it_speaks_of_the_authority_or_makes_byfahrer_think_it_is_its_own(engine):
    engine.run("www", ASKS)
    made = await rendered(engine, "www", authority=Mount(kind="bind", source="/run/x", destination="/run/byfahrer"))
    body = made.partition("services:")[2]

    assert "/run/" not in body
    assert "SSLTERM_AUTHORITY" not in body
    assert "SSLTERM_HAND_OVER" not in body
    assert "labels" not in body


@pytest.mark.parametrize(
    ("labels", "wish", "fields", "said"),
    [
        ({}, {}, {}, "'www' has no label byfahrer.proxy-image: say which with --image"),
        (ASKS, wish_by_hand("sslterm", {}), {}, "leave out --image and --set"),
        (ASKS | {"byfahrer.mode": "x"}, {}, {}, "byfahrer.mode='x': expected http or tcp"),
        (ASKS | {"byfahrer.enable": "false"}, {}, {}, "'www' is to have no sidecar: see byfahrer.enable"),
        (ASKS, {}, {"network_mode": "host"}, "--network host: expected"),
        ({"byfahrer.proxy-image": "evil"}, {}, {}, "expected an allowed image"),
    ],
)
async def test_what_cannot_be_written_down_is_told(engine, labels, wish, fields, said):
    engine.run("www", labels, **fields)
    with pytest.raises(ManualError) as raised:
        await rendered(engine, "www", wish=wish)

    assert said in str(raised.value)


async def test_who_is_not_there_is_told(engine):
    with pytest.raises(ManualError, match="there is no container 'www'"):
        await rendered(engine, "www")


async def test_a_name_of_others_stays_within_its_comment(engine):
    engine.run("www", ASKS | {"com.docker.compose.service": "web", "com.docker.compose.project": "x\nservices: {}"})
    text = await rendered(engine, "www")

    assert list(yaml.safe_load(text)["services"]) == ["www-proxy"]
