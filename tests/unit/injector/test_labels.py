"""Labels become a sidecar's spec, or one line each that names the label, its value, and what it accepts."""

import time
import types
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byfahrer import labels
from byfahrer import settings as config
from byfahrer.model import Container, Mount, SidecarSpec, Status
from byfahrer.spec import sidecar_spec

BOUNDS = config.policy().limits


def spec(own, service=None, mounts=()):
    target = Container(id="a" * 64, name="www", image="app", status=Status.RUNNING, labels=own, mounts=mounts)
    return sidecar_spec(labels.collect(own, service or {}), target, user="1:1", bounds=BOUNDS)


def env(own, service=None, mounts=()):
    made = spec(own, service, mounts)
    assert isinstance(made, SidecarSpec), made
    return {name: value for name, value in made.env if name != "SSLTERM_HAND_OVER"}


def errors(own, mounts=()):
    return [str(error) for error in spec({"byfahrer.proxy-image": "sslterm", **own}, mounts=mounts)]


def test_the_trigger_alone_gives_a_sidecar_with_its_images_defaults():
    made = spec({"byfahrer.proxy-image": "sslterm:1"})

    assert (made.image, made.mounts, made.stop_timeout) == ("sslterm:1", (), 10)
    assert made.env == (("SSLTERM_HAND_OVER", "on"),)


def test_settings_are_passed_as_the_user_wrote_them_under_short_and_full_names():
    found = env(
        {
            "byfahrer.proxy-image": "sslterm",
            "byfahrer.frontend": ":443",
            "org.qnib.byfahrer.backend-addr": "auto",
            "byfahrer.mode": "tcp",
            "byfahrer.drain-timeout": "1m30s",
        }
    )

    assert found == {
        "SSLTERM_FRONTEND_ADDR": ":443",
        "SSLTERM_BACKEND_ADDR": "auto",
        "SSLTERM_MODE": "tcp",
        "SSLTERM_DRAIN_TIMEOUT": "1m30s",
    }


def test_the_stop_timeout_leaves_time_to_drain():
    assert spec({"byfahrer.proxy-image": "sslterm", "byfahrer.drain-timeout": "90s"}).stop_timeout > 90


@pytest.mark.parametrize(
    ("own", "service", "expected"),
    [
        ({"byfahrer.frontend": ":1"}, {"byfahrer.frontend": ":2"}, ":1"),
        ({"org.qnib.byfahrer.frontend": ":1"}, {"byfahrer.frontend": ":2"}, ":1"),
        ({"org.qnib.byfahrer.frontend": ":1", "byfahrer.frontend": ":3"}, {}, ":3"),
        ({}, {"org.qnib.byfahrer.frontend": ":1", "byfahrer.frontend": ":3"}, ":3"),
        ({"org.qnib.byfahrer.frontend-addr": ":1"}, {"byfahrer.frontend": ":2"}, ":1"),
        ({"org.qnib.byfahrer.frontend-addr": ":1", "byfahrer.frontend": ":3"}, {}, ":3"),
    ],
)
def test_the_containers_own_label_wins_over_its_services_and_the_short_form_over_the_long(own, service, expected):
    found = env({"byfahrer.proxy-image": "sslterm", **own}, service)

    assert found == {"SSLTERM_FRONTEND_ADDR": expected}


def test_an_image_of_2017_is_told_in_its_own_words_too():
    found = env({"org.qnib.byfahrer.proxy-image": "qnib/gosslterm", "byfahrer.frontend": ":443"})

    assert found == {"SSLTERM_FRONTEND_ADDR": ":443", "GOSSLTERM_FRONTEND_ADDR": ":443"}


@pytest.mark.parametrize(
    ("label", "value", "says"),
    [
        ("byfahrer.mode", "sctp", "byfahrer.mode='sctp': expected http or tcp"),
        ("org.qnib.byfahrer.frontend", "443", "org.qnib.byfahrer.frontend='443': expected host:port"),
        ("byfahrer.frontend", "", "byfahrer.frontend='': expected host:port"),
        ("byfahrer.frontent", ":443", "byfahrer.frontent=':443': there is no such label; did you mean"),
        ("byfahrer.zzz", "1", "byfahrer.zzz='1': there is no such label; there are proxy-image, enable, frontend"),
        ("byfahrer.cert", "/x", "byfahrer.cert='/x': expected secret:NAME"),
        ("byfahrer.command", "sh", "byfahrer.command='sh': there is no such label"),
        ("byfahrer.env.X", "1", "byfahrer.env.X='1': there is no such label"),
        ("byfahrer.drain-timeout", "soon", "byfahrer.drain-timeout='soon': expected a duration"),
        ("org.qnib.gosslterm.ssl.volume.from", "maybe", "ssl.volume.from='maybe': expected true or false"),
        ("byfahrer.proxy-image", " ", "byfahrer.proxy-image=' ': expected the name of a sidecar image"),
    ],
)  # fmt: skip
def test_a_bad_label_names_itself_its_value_and_what_it_accepts(label, value, says):
    found = errors({label: value})

    assert len(found) == 1
    assert says in found[0]
    assert "\n" not in found[0]


def test_every_bad_label_is_named_at_once():
    assert len(errors({"byfahrer.mode": "x", "byfahrer.frontend": "x", "byfahrer.no": "x"})) == 3


def test_of_very_many_bad_labels_some_are_named_and_the_others_counted_at_once():
    bad = {f"byfahrer.fronten-{number:05x}": "x" for number in range(20_000)}
    begun = time.process_time()
    found = errors(bad)

    assert time.process_time() - begun < 1
    assert len(found) == 6
    assert found[-1] == "and 19995 more"


def test_what_a_label_says_is_shown_in_one_line_of_bearable_length():
    (found,) = errors({"byfahrer.q\n2026 ERROR forged \x1b[2J" + "n" * 9999: "v\n" * 9999})
    (value,) = errors({"byfahrer.mode": "v\n" * 9999})

    assert found.startswith("byfahrer.q\\n2026 ERROR forged \\x1b[2Jnnn")
    for text in (found, value):
        assert len(text) < 1000
        assert text.isprintable()


@pytest.mark.parametrize("image", ["sslterm:x\nforged", "sslterm:-", "sslterm@sha256:x", "SSL", "a b", "x" * 600])
def test_what_can_be_no_image_is_refused(image):
    (found,) = errors({"byfahrer.proxy-image": image})

    assert "expected the name of a sidecar image" in found
    assert "\n" not in found


@pytest.mark.parametrize("target_id", ["www", "", "a" * 12, "g" * 64, "a" * 65, "a" * 64 + "\n", "../" + "a" * 61])
def test_only_a_whole_id_names_a_target(target_id):
    assert labels.claim({"byfahrer.target": target_id}) is None


def test_only_who_shares_the_targets_network_is_a_sidecar():
    def whose(network):
        carried = {"byfahrer.target": "f" * 64}
        return labels.target_of(
            Container(id="a", name="s", image="x", status=Status.RUNNING, labels=carried, network_mode=network)
        )

    assert whose(f"container:{'f' * 64}") == "f" * 64
    assert [whose(network) for network in ("default", "host", f"container:{'e' * 64}", "container:www")] == [None] * 4


def test_labels_of_sidecars_mean_nothing_on_a_target():
    carried = {"byfahrer.target": "x", "byfahrer.manual": "true", "byfahrer.spec": "y", "byfahrer.version": "z"}

    assert not labels.mentions(carried)
    assert env(carried | {"byfahrer.proxy-image": "sslterm"}) == {}


def test_settings_that_contradict_each_other_name_the_label():
    assert errors({"byfahrer.backend": ":8081"}) == [
        "byfahrer.backend=':8081': expected another port than byfahrer.frontend=:8081"
    ]


def test_enable_turns_a_wish_off_and_must_be_yes_or_no():
    on = {"byfahrer.proxy-image": "sslterm"}

    assert labels.asks(labels.collect(on))
    assert labels.asks(labels.collect({**on, "byfahrer.enable": "true"}))
    assert not labels.asks(labels.collect({**on, "byfahrer.enable": "False"}))
    assert not labels.asks(labels.collect({"byfahrer.enable": "perhaps"}))
    with pytest.raises(labels.LabelError, match=r"byfahrer.enable='perhaps': expected true or false"):
        labels.asks(labels.collect({**on, "byfahrer.enable": "perhaps"}))


class TestCertificateFromTheTargetsVolumes:
    ON = types.MappingProxyType({"byfahrer.proxy-image": "sslterm", "org.qnib.gosslterm.ssl.volume.from": "true"})

    def test_takes_the_one_mount_that_covers_the_path(self):
        ssl = Mount(kind="volume", source="certs", destination="/opt/qnib/ssl")
        wide = Mount(kind="bind", source="/srv", destination="/opt")
        made = spec(self.ON, mounts=(wide, ssl, Mount(kind="volume", source="x", destination="/opt/qnib/ssl2")))

        assert made.mounts == (replace(ssl, destination="/run/target-ssl"),)
        assert made.env[:1] == (("SSLTERM_CERT", "/run/target-ssl/cert.pem"),)
        assert made.env[2:] == (("SSLTERM_KEY", "/run/target-ssl/key.pem"),)

    def test_the_path_may_lie_below_the_mount(self):
        mount = Mount(kind="bind", source="/srv", destination="/data")
        made = spec(self.ON | {labels.VOLUME_PATH: "/data/./tls/"}, mounts=(mount,))

        assert made.mounts == (replace(mount, destination="/run/target-ssl"),)
        assert dict(made.env)["SSLTERM_KEY"] == "/run/target-ssl/tls/key.pem"

    @pytest.mark.parametrize("path", ["/usr/lib/python3/dist-packages/sslterm", "/", "/run/target-ssl/x"])
    def test_nothing_of_the_target_ever_covers_the_sidecars_own_files(self, path):
        (shared,) = spec(
            self.ON | {labels.VOLUME_PATH: path}, mounts=(Mount(kind="volume", source="x", destination=path),)
        ).mounts

        assert shared == Mount(kind="volume", source="x", destination="/run/target-ssl")

    def test_an_image_of_2017_is_told_in_its_own_words_too(self):
        mount = Mount(kind="volume", source="certs", destination="/opt/qnib/ssl")
        found = env(self.ON | {"byfahrer.proxy-image": "qnib/gosslterm:1"}, mounts=(mount,))

        assert found["GOSSLTERM_CERT"] == found["SSLTERM_CERT"] == "/run/target-ssl/cert.pem"
        assert found["GOSSLTERM_KEY"] == "/run/target-ssl/key.pem"

    def test_a_socket_is_no_folder(self):
        mount = Mount(kind="bind", source="/var/run/docker.sock", destination="/opt/qnib/ssl")

        assert "expected a path in a volume" in errors(self.ON, mounts=(mount,))[0]

    @pytest.mark.parametrize(
        ("path", "mounts"),
        [
            ("/opt/qnib/ssl", ()),
            ("/opt/qnib/ssl", (Mount(kind="tmpfs", source="", destination="/opt/qnib/ssl"),)),
            ("/opt/qnib/ssl", (Mount(kind="volume", source="x", destination="/opt/qnib/ss"),)),
            ("relative", (Mount(kind="volume", source="x", destination="/relative"),)),
            ("/data/../etc", (Mount(kind="volume", source="x", destination="/data"),)),
        ],
    )
    def test_without_such_a_mount_it_says_so(self, path, mounts):
        found = errors(self.ON | {labels.VOLUME_PATH: path}, mounts=mounts)

        assert len(found) == 1
        assert found[0].startswith(f"{labels.VOLUME_PATH}={path!r}: expected")

    def test_is_off_when_it_says_so(self):
        assert env(self.ON | {labels.VOLUME_FROM: "false"}) == {}


def test_a_sidecar_says_whose_it_is_and_keeps_updaters_away():
    target = Container(id="f" * 64, name="www", image="app", status=Status.RUNNING)
    made = spec({"byfahrer.proxy-image": "sslterm"})
    carried = labels.sidecar_labels(target, made)

    assert carried["byfahrer.target"] == "f" * 64
    assert carried["byfahrer.target-name"] == "www"
    assert carried["byfahrer.spec"] == made.digest
    assert carried["com.centurylinklabs.watchtower.enable"] == "false"


def test_a_wish_by_hand_survives_the_way_over_the_sidecars_labels():
    wish = labels.wish_by_hand("sslterm", {"frontend": ":443"})
    carried = {"byfahrer.manual": "true", "byfahrer.target": "x", "byfahrer.spec": "y", "other": "z", **wish}
    sidecar = Container(id="a", name="s", image="sslterm", status=Status.RUNNING, labels=carried)

    assert labels.wish_of(sidecar) == wish


def test_addresses_are_read_back_from_a_sidecars_environment():
    assert labels.addresses({"SSLTERM_FRONTEND_ADDR": ":443"}) == (":443", "127.0.0.1:8080")
    assert labels.addresses({"SSLTERM_FRONTEND_ADDR": "nonsense"}) == ("", "")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["byfahrer.", "org.qnib.byfahrer."]).flatmap(lambda p: st.text(max_size=12).map(p.__add__)),
        st.text(max_size=12),
    )
)
def test_any_labels_give_a_spec_or_lines_for_people(own):
    made = spec({"byfahrer.proxy-image": "sslterm", **own})

    assert isinstance(made, SidecarSpec) or all(str(error) and isinstance(error, labels.LabelError) for error in made)


def test_a_label_of_the_image_gives_way_to_the_operators_whatever_its_form():
    asks = {"byfahrer.client-auth": "none", "byfahrer.enable": "true", "byfahrer.mode": "tcp"}
    meant = {"org.qnib.byfahrer.client-auth": "required"}
    own, service = labels.collect({**asks, **meant}, {}, frozenset(asks)), labels.collect(asks, meant, frozenset(asks))

    assert own["client-auth"].value == service["client-auth"].value == "required"
    assert own["mode"].value == "tcp"


CALLS = ":5432=tasks.shop_db:8081"
MOUNT = Mount(kind="volume", source="run", destination="/run/byfahrer", writable=True)


def calls(own, service=None, inherited=()):
    """The setting that a sidecar gets by which it calls others; or what is wrong with the label."""
    target = Container(id="a" * 64, name="www", image="app", status=Status.RUNNING, labels=own)
    found = labels.collect(own, service or {}, frozenset(inherited))
    made = sidecar_spec(found, target, user="1:1", bounds=BOUNDS, authority=MOUNT)
    return dict(made.env).get("SSLTERM_OUTBOUND") if isinstance(made, SidecarSpec) else [str(each) for each in made]


def test_whom_to_call_is_for_the_operator_to_say_and_not_for_an_image():
    asks = {"byfahrer.proxy-image": "sslterm"}
    own = {**asks, "byfahrer.outbound": CALLS}
    refusal = (
        f"byfahrer.outbound={CALLS!r}: expected it on the container or its service, not in an image "
        "(org.qnib.byfahrer.outbound counts)"
    )

    assert calls(own) == CALLS
    assert calls(asks, {"byfahrer.outbound": CALLS}) == CALLS
    assert calls(own, inherited=own) == [refusal]
    assert calls(own, {"byfahrer.outbound": ":1=db:2"}, inherited=own) == ":1=db:2"
    assert calls({**own, "org.qnib.byfahrer.outbound": ":1=db:2"}, inherited=own) == ":1=db:2"
    assert calls({**own, "org.qnib.byfahrer.outbound": ""}, inherited=own) == ""


def test_whom_to_call_makes_sense_or_is_an_error():
    reachable = calls({"byfahrer.proxy-image": "sslterm", "byfahrer.outbound": "0.0.0.0:1=db:2"})
    unverified = errors({"byfahrer.outbound": CALLS})  # by a byfahrer without its authority

    forms = "[LOCAL]:PORT=HOST:PORT between commas, such as :5432=db:8432; LOCAL is loopback, each PORT once"
    assert reachable == [f"byfahrer.outbound='0.0.0.0:1=db:2': expected {forms}"]
    file = "a PEM file of the authorities that servers' certificates must come from"
    assert unverified == [f"byfahrer.outbound={CALLS!r}: expected byfahrer.client-ca beside it: {file}"]
