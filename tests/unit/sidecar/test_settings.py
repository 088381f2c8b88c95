"""Settings: forms, order of sources, refusals."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslterm.arguments import as_flags
from sslterm.settings import (
    AUTO,
    Address,
    LogFormat,
    Mode,
    Outbound,
    SettingError,
    Settings,
    UnixAddress,
    parse_address,
    parse_duration,
    spec_for_label,
    specs,
)

PORTS = st.integers(1, 65535)


@given(host=st.from_regex(r"[a-z][a-z0-9.-]{0,60}", fullmatch=True), port=PORTS)
def test_every_host_and_port_is_read_back_from_its_text(host, port):
    assert parse_address(str(Address(host, port))) == Address(host, port)


@given(host=st.ip_addresses(), port=PORTS)
def test_every_ip_address_is_read_back_from_its_text(host, port):
    assert parse_address(str(Address(str(host), port))) == Address(str(host), port)


@given(port=PORTS)
def test_a_port_alone_means_every_interface(port):
    assert parse_address(f":{port}") == Address("", port)


@given(text=st.text())
def test_any_text_is_an_address_or_a_value_error(text):
    try:
        found = parse_address(text)
    except ValueError:
        return

    assert 0 < found.port < 65536
    assert ":" not in found.host or IPv6Address(found.host)


@pytest.mark.parametrize(
    "text", ["", "8080", "host", ":0", ":65536", "a b:1", "::1:80", "[::1]", "[1:2]:80", "[a]:80", ":-1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError):
        parse_address(text)


@given(text=st.text(alphabet="0123456789.hms "))
def test_any_text_is_a_usable_duration_or_a_value_error(text):
    try:
        seconds = parse_duration(text)
    except ValueError:
        return

    assert 0 < seconds <= 365 * 86400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("10s", 10), ("1m30s", 90), ("2h", 7200), ("7", 7), ("0.5", 0.5), ("1h1m1s1ms", 3661.001)],
)
def test_durations_are_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "1d", "s", "1s1m", "9" * 400, "nan", "inf", "8761h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("spec", list(specs()), ids=lambda spec: spec.name)
def test_the_default_that_is_shown_is_the_default_that_is_used(spec):
    shown = None if spec.default is None else spec.read(spec.default, spec.name)

    assert getattr(Settings(), spec.attribute) == shown


@pytest.mark.parametrize("spec", [s for s in specs() if not s.accepts.startswith("a path")], ids=lambda spec: spec.name)
def test_a_bad_value_is_refused_with_the_name_it_was_given_by(spec):
    for flags, environ, named in [
        ({spec.name: "!"}, {}, f"--{spec.name}="),
        *(({}, {variable: "!"}, f"{variable}=") for variable in spec.variables),
    ]:
        with pytest.raises(SettingError) as error:
            Settings.resolve(flags, environ)

        assert str(error.value) == f"{named}'!': expected {spec.accepts}"


def test_flag_wins_over_own_variable_over_that_of_2017():
    old, own, flag = ({"GOSSLTERM_FRONTEND_ADDR": ":1"}, {"SSLTERM_FRONTEND_ADDR": ":2"}, {"frontend-addr": ":3"})

    assert Settings.resolve({}, {}).frontend_addr == Address("", 8081)
    assert Settings.resolve({}, old).frontend_addr == Address("", 1)
    assert Settings.resolve({}, old | own).frontend_addr == Address("", 2)
    assert Settings.resolve(flag, old | own).frontend_addr == Address("", 3)


def test_an_empty_variable_counts_as_not_set():
    assert Settings.resolve({}, {"SSLTERM_MODE": "", "GOSSLTERM_CERT": "", "GOSSLTERM_KEY": ""}) == Settings()


def test_values_have_their_types():
    environ = {
        "SSLTERM_MODE": "tcp", "GOSSLTERM_CERT": "/c", "GOSSLTERM_KEY": "/k", "SSLTERM_LOG_FORMAT": "json",
        "LOG_LEVEL": "warn", "SSLTERM_ACCESS_LOG": "off", "SSLTERM_MAX_HEAD_SIZE": "16KiB",
        "SSLTERM_TRUSTED_PROXIES": "10.0.0.0/8, ::1", "SSLTERM_BACKEND_ADDR": "auto", "SSLTERM_MAX_CONNECTIONS": "5",
    }  # fmt: skip

    assert Settings.resolve({}, environ) == Settings(
        mode=Mode.TCP, cert=Path("/c"), key=Path("/k"), log_format=LogFormat.JSON, log_level="WARNING",
        access_log=False, max_head_size=16384, trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1")),
        backend_addr=AUTO, max_connections=5,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["0", "17", "two", "1.5", "-1"])
def test_a_number_of_workers_that_cannot_be_is_refused(text):
    with pytest.raises(SettingError, match="expected a whole number from 1 to 16"):
        Settings.resolve({"workers": text}, {})


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(
            frontend_addr=AUTO,
            backend_addr=Address("::1", 9),
            mode=Mode.TCP,
            cert=Path("/a b"),
            key=Path("/c=d"),
            trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
            access_log=False,
            log_format=LogFormat.JSON,
            log_level="WARNING",
            max_head_size=1234,
            drain_timeout=0.25,
            idle_timeout=31536000.0,
            hand_over=True,
            admin_addr=UnixAddress("/run/a:b/admin.sock"),
            workers=16,
        ),
        Settings(
            outbound=(
                Outbound(Address("127.0.0.1", 5432), Address("tasks.shop_db", 8081)),
                Outbound(Address("::1", 1), Address("fd00::1", 2)),
            ),
            client_ca=Path("/a"),
        ),
    ],
)
def test_settings_are_read_back_from_the_command_line_that_says_the_same(settings):
    flags = as_flags(settings.as_flags())

    assert flags is not None
    assert Settings.resolve(flags, {}) == settings


@pytest.mark.parametrize("url", ["https://acme.example/dir", "https://127.0.0.1:14000/dir", "https://[::1]:14000/dir"])
def test_an_acme_server_is_named_by_its_directory(url):
    assert Settings.resolve({"acme-directory": url}, {}).acme_directory == url


@pytest.mark.parametrize(
    "url",
    ["http://a/dir", "https://", "https://[x", "https://[::::]/", "https://a:0/", "https://a:99999/", "https://u:p@a/"],
)
def test_a_directory_that_nobody_could_ask_is_refused(url):
    with pytest.raises(SettingError, match="acme-directory"):
        Settings.resolve({"acme-directory": url}, {})


def test_a_backend_port_alone_is_on_loopback():
    assert Settings.resolve({"backend-addr": ":9000"}, {}).backend_addr == Address("127.0.0.1", 9000)


def test_the_admin_address_is_a_unix_socket_or_none():
    assert Settings.resolve({"admin-addr": "none"}, {"SSLTERM_ADMIN_ADDR": "unix:/x"}).admin_addr is None
    assert Settings.resolve({}, {"SSLTERM_ADMIN_ADDR": "unix:/x"}).admin_addr == UnixAddress("/x")
    for text in ("127.0.0.1:80", ":80", "unix:", "unix:/x/", "/x", "unix:/x\0"):
        with pytest.raises(SettingError, match=r"expected unix:/path/to\.sock or none"):
            Settings.resolve({"admin-addr": text}, {})


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        ({}, "self-signed"),
        ({"authority": "/s", "authority-token": "/t"}, "authority"),
        ({"authority": "/s", "authority-token": "/t", "acme": "a.example"}, "acme"),
        ({"authority": "/s", "authority-token": "/t", "cert": "/c", "key": "/k"}, "files"),
        ({"authority": "/s", "authority-token": "/t", "cert-dir": "/c"}, "files"),
    ],
)
def test_the_authority_certifies_where_nothing_else_is_given(flags, source):
    assert Settings.resolve(flags, {}).certificate_source == source


@pytest.mark.parametrize("given", ["cert", "key"])
def test_certificate_and_key_come_together(given):
    with pytest.raises(SettingError, match="come together"):
        Settings.resolve({given: "/x"}, {})


@pytest.mark.parametrize(
    ("front", "back"),
    [(":80", "127.0.0.1:80"), ("0.0.0.0:80", "localhost:80"), ("[::]:80", "[::1]:80"), ("a:80", "a:80")],
)
def test_frontend_and_backend_must_differ(front, back):
    with pytest.raises(SettingError, match="another port than frontend-addr"):
        Settings.resolve({"frontend-addr": front, "backend-addr": back}, {})


def test_labels_name_settings_by_short_or_full_name_but_never_files():
    by_label = {name: spec_for_label(name) for name in ("frontend", "frontend-addr", "mode", "cert", "key", "nonsense")}

    assert {name: spec and spec.name for name, spec in by_label.items()} == {
        "frontend": "frontend-addr", "frontend-addr": "frontend-addr", "mode": "mode",
        "cert": None, "key": None, "nonsense": None,
    }  # fmt: skip


CA = {"client-ca": "/ca.pem"}


def calls(text, **more):
    return Settings.resolve({"outbound": text, **CA, **more}, {}).outbound


@pytest.mark.parametrize(
    ("text", "local", "remote"),
    [
        (":5432=tasks.shop_db:8081", ("127.0.0.1", 5432), ("tasks.shop_db", 8081)),
        ("127.0.0.1:5432=db:8443", ("127.0.0.1", 5432), ("db", 8443)),
        ("localhost:1=DB.example:2", ("127.0.0.1", 1), ("DB.example", 2)),
        ("127.8.8.8:1=10.0.0.7:2", ("127.8.8.8", 1), ("10.0.0.7", 2)),
        ("[::1]:1=[fd00::7]:2", ("::1", 1), ("fd00::7", 2)),
        (" :1 = db:2 ", ("127.0.0.1", 1), ("db", 2)),
    ],
)
def test_a_call_to_another_is_listened_for_on_loopback(text, local, remote):
    assert calls(text) == (Outbound(Address(*local), Address(*remote)),)


def test_there_may_be_sixteen_of_them():
    text = ",".join(f":{port}=db:1" for port in range(1, 17))

    assert [each.local.port for each in calls(text)] == list(range(1, 17))
    with pytest.raises(SettingError, match="between commas, such as :5432=db:8432"):
        calls(f"{text},:17=db:1")


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:1=db:2", "[::]:1=db:2", "10.0.0.1:1=db:2", "web:1=db:2", ":1=:2", ":1=db", "1=db:2", ":1", "=",
        ":0=db:1", ":1=db:0", ":1=db:65536", ":1=d b:2", ":1=db..x:2", ":1=-db:2", ":1=d=b:2", ":1=db:2=x:3",
        ":1=0.0.0.0:2", ":1=[::]:2", ":1=[fe80::1%eth0]:2", ":1=db:2,:1=other:2", ":1=db:2,127.0.0.2:1=other:2",
        f":1={'x' * 254}:2",
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused(text):
    with pytest.raises(
        SettingError, match=r"--outbound=.*: expected \[LOCAL\]:PORT=HOST:PORT between commas, such as :5432=db:8432"
    ):
        calls(text)


@pytest.mark.parametrize(
    ("text", "more", "owner"),
    [
        (":8081=db:2", {}, "frontend-addr=:8081"),
        (":8080=db:2", {}, "backend-addr=127.0.0.1:8080"),
        (":8443=db:2", {"frontend-addr": "auto"}, "frontend-addr=auto"),
        (":80=db:2", {"redirect-addr": ":80"}, "redirect-addr=:80"),
    ],
)
def test_no_port_is_meant_twice(text, more, owner):
    with pytest.raises(SettingError, match=f"expected another port than .*, which is that of {owner}"):
        calls(text, **more)


def test_a_backend_elsewhere_may_have_the_port():
    assert calls(":8080=db:2", **{"backend-addr": "10.0.0.1:8080"})


def test_nobody_is_called_who_cannot_be_verified():
    with pytest.raises(SettingError, match="expected client-ca beside it: a PEM file of the authorities"):
        Settings.resolve({"outbound": ":1=db:2"}, {})
    assert Settings.resolve({"outbound": ":1=db:2", "authority": "/s", "authority-token": "/t"}, {}).believes


def test_authorities_are_of_use_without_clients_who_show_certificates_only_for_calls():
    with pytest.raises(SettingError, match=r"client-ca='/ca\.pem': expected client-auth"):
        Settings.resolve(CA, {})
    with pytest.raises(SettingError, match="allow='all': expected client-auth"):
        calls(":1=db:2", allow="all")
    assert not Settings().believes


def test_its_own_ports_are_known():
    assert Settings().own_ports == {8081}
    settings = Settings.resolve({"outbound": ":1=db:2,:3=db:4", "frontend-addr": "auto", **CA}, {})
    assert settings.own_ports == {1, 3}
