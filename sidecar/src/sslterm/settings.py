"""
Every setting of the sidecar: its name, default, unit, and what it accepts, once.

The command line, the environment, the injector's labels and the table in the README are all made from the fields of
`Settings`. This module reads no file and imports nothing heavy: the injector and the health probe import it too.

Long, because it is one table, a dozen lines for each kind of value and a few for each setting: split by subject, nobody
would see any more which settings there are, nor what they ask of each other.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

CHECK_ALPN: Final = "sslterm-check/1"
"""The ALPN id by which `sslterm check` makes itself known: it is answered after the handshake and never relayed."""

ACME_DIRECTORIES: Final = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
"""Servers that have a name of their own here."""

AUTO_PORTS: Final = (443, 8443)
"""The ports that the frontend address `auto` stands for, in order."""

SIDECAR_UID: Final = 64443
"""
The user id of injected sidecars, from a range (60000 to 64999) that Debian hands to nobody by itself.

No target is likely to run as it, so none can share the sidecar's port (SO_REUSEPORT asks for the same uid), and a
listener of this uid is another sidecar's, never a backend.
"""


class SettingError(ValueError):
    """A setting whose value cannot be used: `str()` is one line that names it and says what it accepts."""

    def __init__(self, name: str, value: str, accepts: str) -> None:
        super().__init__(f"{name}={value!r}: expected {accepts}")
        self.name = name
        self.value = value
        self.accepts = accepts


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket, by its path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Auto(enum.Enum):
    """The type of `AUTO`: an address that is looked up in the network namespace at start."""

    AUTO = "auto"

    def __str__(self) -> str:
        return self.value


AUTO: Final = Auto.AUTO


class Mode(enum.StrEnum):
    HTTP = "http"
    TCP = "tcp"


class ClientAuth(enum.StrEnum):
    """Whether clients have to show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class SendProxy(enum.StrEnum):
    """Whether the backend is told who called by the PROXY protocol."""

    OFF = "off"
    V2 = "v2"


class ListenWhen(enum.StrEnum):
    """When the port is open."""

    BACKEND = "backend"
    ALWAYS = "always"


class AcmeChallenge(enum.StrEnum):
    """How a name is proved to be ours (RFC 8737; RFC 8555, section 8.3)."""

    TLS_ALPN_01 = "tls-alpn-01"
    HTTP_01 = "http-01"


class LogFormat(enum.StrEnum):
    TEXT = "text"
    JSON = "json"


class TlsProfile(enum.StrEnum):
    """Mozilla's server-side TLS profiles, by their names."""

    INTERMEDIATE = "intermediate"
    MODERN = "modern"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP endpoint; an empty host means every interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where this namespace's own programs call in plain text, and whom they reach by that over TLS."""

    local: Address
    remote: Address

    def __str__(self) -> str:
        return f"{self.local}={self.remote}"


Endpoint = Address | Auto
Networks = tuple[IPv4Network | IPv6Network, ...]

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\[\]:/\s]*)):(?P<port>[0-9]{1,5})")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_LONGEST = 365 * 86400.0
_SIZE = re.compile(r"(\d+)\s*(|[kKmM])(?:i?[bB])?")
_LEVELS = {
    "trace": "TRACE", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR",
}  # fmt: skip


def parse_address(text: str) -> Address:
    """`host:port`, `:port` or `[v6]:port` as an `Address`; ValueError for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise ValueError(text)
    if found["v6"]:
        IPv6Address(found["v6"])
    return Address(found["v6"] or found["host"] or "", int(found["port"]))


def _endpoint(text: str) -> Endpoint:
    return AUTO if text == AUTO.value else parse_address(text)


def _backend(text: str) -> Endpoint:
    endpoint = _endpoint(text)
    if isinstance(endpoint, Address) and not endpoint.host:
        return Address("127.0.0.1", endpoint.port)
    return endpoint


def _unix_address(text: str) -> UnixAddress | None:
    if text == "none":
        return None
    scheme, _, path = text.partition(":")
    if scheme != "unix" or not path or path.endswith("/") or "\0" in path:
        raise ValueError(text)
    return UnixAddress(path)


def parse_duration(text: str) -> float:
    """`250ms`, `10s`, `1m30s`, `2h` or plain seconds, as seconds; ValueError for all else, zero, or over a year."""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        seconds = float(text)
    else:
        found = _DURATION.fullmatch(text)
        if found is None or not text:
            raise ValueError(text)
        seconds = sum(float(n or 0) * unit for n, unit in zip(found.groups(), (3600, 60, 1, 0.001), strict=True))
    if not 0 < seconds <= _LONGEST:
        raise ValueError(text)
    return seconds


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    size: int = int(found[1]) * {"": 1, "k": 1024, "m": 1024 * 1024}[found[2].lower()]
    if not 1024 <= size <= 1024 * 1024:
        raise ValueError(text)
    return size


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) < 1:
        raise ValueError(text)
    return int(text)


_MOST_WORKERS = 16
"""Two threads each: an injected sidecar may have 64 in all."""


def _workers(text: str) -> int:
    count = _count(text)
    if count > _MOST_WORKERS:
        raise ValueError(text)
    return count


def _networks(text: str) -> Networks:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def among(address: str, networks: Networks) -> bool:
    """Whether an IP address, which may have a zone (`fe80::1%eth0`), is in one of `networks`."""
    return bool(networks) and any(ip_address(address.partition("%")[0]) in each for each in networks)


_DNS_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_DNS_LABEL}(\.{_DNS_LABEL})*")
_PATTERN = re.compile(r"spiffe://[a-z0-9._*-]+(/[A-Za-z0-9._*-]+)+|[A-Za-z0-9_*-]+(\.[A-Za-z0-9_*-]+)*")
_URL = re.compile(r"https://(?:[A-Za-z0-9._-]+|\[(?P<v6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?(?:/[^\s?#]*)?")


def _list(text: str) -> list[str]:
    return [part for each in text.split(",") if (part := each.strip())]


def _patterns(text: str) -> tuple[str, ...]:
    found = tuple(each.lower() if each.lower() == "all" else each for each in _list(text))
    if not all(_PATTERN.fullmatch(each) for each in found):
        raise ValueError(text)
    return found


def parse_names(text: str) -> tuple[str, ...]:
    """DNS names between commas, or none, in lower case; ValueError for anything else."""
    found = tuple(dict.fromkeys(each.lower() for each in _list(text)))
    if not all(_DNS_NAME.fullmatch(each) for each in found):
        raise ValueError(text)
    return found


_MOST_OUTBOUND = 16
"""Each has a listener and, at times, a thread that looks up its host: an injected sidecar may have 64 of these."""


def _outbound(text: str) -> tuple[Outbound, ...]:
    found = tuple(_one_outbound(each) for each in _list(text))
    if len(found) > _MOST_OUTBOUND or len({each.local.port for each in found}) < len(found):
        raise ValueError(text)
    return found


def _one_outbound(text: str) -> Outbound:
    left, _, right = text.partition("=")
    local, remote = parse_address(left.strip()), parse_address(right.strip())
    host = "127.0.0.1" if local.host.lower() in ("", "localhost") else str(ip_address(local.host))
    # On any other address everybody in the target's networks could call in the target's name.
    if not ip_address(host).is_loopback:
        raise ValueError(text)
    if ":" not in remote.host and not _DNS_NAME.fullmatch(remote.host):
        raise ValueError(text)
    if remote.host in ("::", "0.0.0.0") or "%" in remote.host:  # no certificate names these
        raise ValueError(text)
    return Outbound(Address(host, local.port), remote)


def _directory(text: str) -> str:
    url = ACME_DIRECTORIES.get(text, text)
    found = _URL.fullmatch(url)
    if found is None or not 0 < int(found["port"] or 443) < 65536:
        raise ValueError(text)
    if found["v6"]:
        IPv6Address(found["v6"])
    return url


def _email(text: str) -> str:
    if text and not re.fullmatch(r"[^\s@,]+@[^\s@,]+", text):
        raise ValueError(text)
    return text


def _plain_address(text: str) -> Address:
    return parse_address(text)


def _tlv_type(text: str) -> int:
    number = int(text, 0)
    if not 0xD0 <= number <= 0xF7:
        raise ValueError(text)
    return number


def _level(text: str) -> str:
    if text.lower() not in _LEVELS:
        raise ValueError(text)
    return _LEVELS[text.lower()]


def _switch(text: str) -> bool:
    answers = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "no": False}
    if text.lower() not in answers:
        raise ValueError(text)
    return answers[text.lower()]


def _one_of(kind: type[enum.StrEnum]) -> Callable[[str], enum.StrEnum]:
    return kind


@dataclass(frozen=True, slots=True)
class Spec:
    """How one setting is written, read and explained."""

    name: str
    """Its name on the command line, in labels and in messages: `frontend-addr`."""
    default: str | None
    """The default as a user would write it; None where there is none."""
    accepts: str
    help: str
    parse: Callable[[str], Any]
    legacy: str | None
    """The environment variable of the 2017 program that means the same."""
    short: str | None
    """A one-letter flag, where the 2017 program had one."""
    label: str | None
    """The short name that a label may use instead; None where no label may set it."""

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """`SSLTERM_FRONTEND_ADDR`."""
        return f"SSLTERM_{self.attribute.upper()}"

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables that set it, the stronger first."""
        return (self.variable, self.legacy) if self.legacy else (self.variable,)

    def read(self, text: str, source: str) -> Any:  # noqa: ANN401 - each setting has its own type
        """`text` as the setting's value; SettingError, naming `source`, if it is none."""
        try:
            return self.parse(text)
        except ValueError:
            raise SettingError(source, text, self.accepts) from None


_ADDRESS_FORMS = "host:port, :port, [v6]:port or auto"
_DURATION_FORMS = "a duration up to a year such as 500ms, 10s or 1m30s"


def _setting(
    default: T,
    text: str | None,
    accepts: str,
    about: str,
    parse: Callable[[str], Any],
    *,
    legacy: str | None = None,
    short: str | None = None,
    label: str | None = "",
) -> T:
    """`label`: the short label name; "" for the setting's own name, None if no label may set it."""
    meta = {"text": text, "accepts": accepts, "help": about, "parse": parse, "legacy": legacy, "short": short}
    return field(default=default, metadata=meta | {"label": label})


def _timeout(seconds: float, text: str, about: str) -> float:
    return _setting(seconds, text, _DURATION_FORMS, about, parse_duration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one sidecar does. Built once, by `Settings.resolve`; durations are seconds, sizes bytes."""

    frontend_addr: Endpoint = _setting(
        Address("", 8081), ":8081", _ADDRESS_FORMS,
        "Where TLS is served. auto: :443, or :8443 where 443 is taken.",
        _endpoint, legacy="GOSSLTERM_FRONTEND_ADDR", label="frontend",
    )  # fmt: skip
    backend_addr: Endpoint = _setting(
        Address("127.0.0.1", 8080), "127.0.0.1:8080", _ADDRESS_FORMS,
        "Where the plain service listens. auto: the one listener found in this network namespace.",
        _backend, legacy="GOSSLTERM_BACKEND_ADDR", label="backend",
    )  # fmt: skip
    mode: Mode = _setting(
        Mode.HTTP, "http", "http or tcp",
        "http understands HTTP/1.1 and says who called; tcp relays any byte stream.", _one_of(Mode),
    )  # fmt: skip
    cert: Path | None = _setting(
        None, None, "a path to a PEM file", "Certificate chain, leaf first. Without it a self-signed pair is made.",
        Path, legacy="GOSSLTERM_CERT", short="c", label=None,
    )  # fmt: skip
    key: Path | None = _setting(
        None, None, "a path to a PEM file", "Private key of --cert, not encrypted.",
        Path, legacy="GOSSLTERM_KEY", short="k", label=None,
    )  # fmt: skip
    tls_profile: TlsProfile = _setting(
        TlsProfile.INTERMEDIATE, "intermediate", "intermediate or modern",
        "Mozilla's TLS profile: intermediate is TLS 1.2 and 1.3, modern is 1.3 only.", _one_of(TlsProfile),
    )  # fmt: skip
    cert_dir: Path | None = _setting(
        None, None, "a path to a folder", "Folder of pairs NAME.crt, NAME.key, of which SNI chooses.",
        Path, label=None,
    )  # fmt: skip
    authority: Path | None = _setting(
        None, None, "a path to a unix socket", "Socket of byfahrer's authority, which gives certificates.",
        Path, label=None,
    )  # fmt: skip
    authority_token: Path | None = _setting(
        None, None, "a path to a file", "File with the token by which the authority knows whom this sidecar is for.",
        Path, label=None,
    )  # fmt: skip
    client_auth: ClientAuth = _setting(
        ClientAuth.NONE, "none", "none, optional or required",
        "Whether clients must show a certificate. required wants allow to say whose.", _one_of(ClientAuth),
    )  # fmt: skip
    client_ca: Path | None = _setting(
        None, None, "a path to a PEM file",
        "Authorities that certificates of clients, and of servers called, must come from. Default: byfahrer's.", Path,
    )  # fmt: skip
    allow: tuple[str, ...] = _setting(
        (), "", "all, or names such as web, *.shop or spiffe://example.org/ns/shop/svc/*, between commas",
        "Clients that may call, by DNS name or SPIFFE ID in their certificate: * is one segment, ** any.",
        _patterns,
    )  # fmt: skip
    outbound: tuple[Outbound, ...] = _setting(
        (), "", "[LOCAL]:PORT=HOST:PORT between commas, such as :5432=db:8432; LOCAL is loopback, each PORT once",
        "Calls to others: plain TCP here on loopback, TLS with the sidecar's certificate from there to HOST, "
        "which is verified.",
        _outbound,
    )  # fmt: skip
    acme: tuple[str, ...] = _setting(
        (), "", "DNS names between commas", "Names to get a certificate for from an ACME server.", parse_names,
    )  # fmt: skip
    acme_directory: str = _setting(
        ACME_DIRECTORIES["letsencrypt"], "letsencrypt", "letsencrypt, letsencrypt-staging or an https URL",
        "The ACME server, by its directory. The staging one is for trying out: nobody trusts it.", _directory,
    )  # fmt: skip
    acme_email: str = _setting("", "", "an e-mail address", "Contact for the ACME account; may be left out.", _email)
    acme_ca: Path | None = _setting(
        None, None, "a path to a PEM file", "Authorities of a private ACME server's own certificate.", Path, label=None,
    )  # fmt: skip
    acme_dir: Path = _setting(
        Path("/var/lib/sslterm"), "/var/lib/sslterm", "a path to a folder",
        "Where the ACME account and certificates are kept; a volume, so that they outlive the sidecar.",
        Path, label=None,
    )  # fmt: skip
    acme_challenge: AcmeChallenge = _setting(
        AcmeChallenge.TLS_ALPN_01, "tls-alpn-01", "tls-alpn-01 or http-01",
        "How names are proved: on the frontend (public port 443) or the redirect address (public port 80).",
        _one_of(AcmeChallenge),
    )  # fmt: skip
    redirect_addr: Address | None = _setting(
        None, None, "host:port, :port or [v6]:port", "Where plain HTTP is answered with 308 to https, usually :80.",
        _plain_address, label="redirect",
    )  # fmt: skip
    accept_proxy: Networks = _setting(
        (), "", "networks such as 10.0.0.0/8,192.0.2.1",
        "Load balancers that begin each connection with a PROXY protocol header (v1 or v2), and must.", _networks,
    )  # fmt: skip
    send_proxy: SendProxy = _setting(
        SendProxy.OFF, "off", "off or v2",
        "tcp mode: tell the backend who called by PROXY protocol v2, with TLS and SPIFFE details.", _one_of(SendProxy),
    )  # fmt: skip
    proxy_spiffe_type: int = _setting(
        0xD0, "0xD0", "a number from 0xD0 to 0xF7", "Type of the PROXY protocol field for the SPIFFE ID.", _tlv_type,
    )  # fmt: skip
    trusted_proxies: Networks = _setting(
        (), "", "networks such as 10.0.0.0/8,192.0.2.1", "Peers whose X-Forwarded-* headers are believed.", _networks,
    )  # fmt: skip
    log_level: str = _setting(
        "INFO", "info", "trace, debug, info, warn or error", "How much the sidecar says about itself, on stderr.",
        _level, legacy="LOG_LEVEL",
    )  # fmt: skip
    log_format: LogFormat = _setting(
        LogFormat.TEXT, "text", "text or json", "Form of both logs.", _one_of(LogFormat),
    )  # fmt: skip
    access_log: bool = _setting(
        True, "on", "on or off", "A line on stdout for each request (http) or connection (tcp), at its end.", _switch,
    )  # fmt: skip
    workers: int = _setting(
        1, "1", "a whole number from 1 to 16",
        "Processes that relay, 1 to 16: about one for each core to be used. Two or more have another to keep them.",
        _workers,
    )  # fmt: skip
    max_connections: int = _setting(
        1024, "1024", "a whole number above zero",
        "Client connections at a time; for one more, the longest idle is closed. Each takes up to 200 KiB.", _count,
    )  # fmt: skip
    max_head_size: int = _setting(
        32768, "32KiB", "a size from 1KiB to 1MiB",
        "Longest request or response head; nginx takes 32 KiB in all, node 16 KiB.", _size,
    )  # fmt: skip
    handshake_timeout: float = _timeout(10.0, "10s", "From accept to the end of the TLS handshake.")
    head_timeout: float = _timeout(10.0, "10s", "From a request's first byte to the end of its head.")
    connect_timeout: float = _timeout(5.0, "5s", "For the backend to accept a connection.")
    response_timeout: float = _timeout(60.0, "1m", "From the end of a request to the head of its response (then 504).")
    keepalive_timeout: float = _timeout(75.0, "75s", "Between requests on one connection.")
    stall_timeout: float = _timeout(
        60.0, "1m", "How long an HTTP client may send nothing of a body it owes, or take nothing of a response.",
    )  # fmt: skip
    idle_timeout: float = _timeout(
        3600.0, "1h", "With no byte either way: tcp mode, WebSockets and other upgrades, response bodies.",
    )  # fmt: skip
    drain_timeout: float = _timeout(
        8.0, "8s", "For requests under way after SIGTERM; less than the 10 s that docker stop waits.",
    )  # fmt: skip

    listen_when: ListenWhen = _setting(
        ListenWhen.BACKEND, "backend", "backend or always",
        "Whether the port is open only while something in this network namespace listens on backend-addr.",
        _one_of(ListenWhen),
    )  # fmt: skip
    strict: bool = _setting(
        False, "off", "on or off",
        "Be not ready (byfahrer ps, /ready, sslterm check) while clients can go round TLS to the backend.", _switch,
    )  # fmt: skip
    admin_addr: UnixAddress | None = _setting(
        None, "none", "unix:/path/to.sock or none",
        "Socket for status and metrics: GET /status, /metrics and /ready.", _unix_address, label=None,
    )  # fmt: skip
    hand_over: bool = _setting(
        False, "off", "on or off",
        "Share the port with another sslterm of the same user, so that a new one can take over without a lost request.",
        _switch, label=None,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise SettingError(given, str(getattr(self, given)), f"to come together with {missing}; it is not set")
        front, back = self.frontend_addr, self.backend_addr
        if isinstance(front, Address) and isinstance(back, Address) and front.port == back.port:
            anywhere = ("", "0.0.0.0", "::")
            if front.host == back.host or (front.host in anywhere and back.host in ("127.0.0.1", "::1", "localhost")):
                raise SettingError("backend-addr", str(back), f"another port than frontend-addr={front}")

        if self.redirect_addr and isinstance(front, Address) and front.port == self.redirect_addr.port:
            raise SettingError("redirect-addr", str(self.redirect_addr), f"another port than frontend-addr={front}")
        self._check_certificate()
        self._check_clients()
        self._check_outbound()

    def _check_certificate(self) -> None:
        """Where the certificate is from is said once."""
        given = [
            name for name, value in (("cert", self.cert), ("cert-dir", self.cert_dir), ("acme", self.acme)) if value
        ]
        if len(given) > 1:
            raise SettingError(
                given[1], _written(getattr(self, given[1].replace("-", "_"))), f"no {given[0]} beside it"
            )
        if (self.authority is None) != (self.authority_token is None):
            raise SettingError("authority", str(self.authority), "to come together with authority-token")
        if self.acme_challenge is AcmeChallenge.HTTP_01 and self.acme and self.redirect_addr is None:
            raise SettingError("acme-challenge", "http-01", "redirect-addr beside it, such as :80")

    def _check_clients(self) -> None:
        """Who may call is said as a whole: a half of it would let in everybody, or nobody."""
        if self.client_auth is ClientAuth.NONE:
            for name, value in (("allow", self.allow), ("client-ca", self.client_ca)):
                if value and not (name == "client-ca" and self.outbound):
                    raise SettingError(name, _written(value), "client-auth=required or optional beside it")
        else:
            if self.client_auth is ClientAuth.REQUIRED and not self.allow:
                accepts = "allow beside it, with the names that may call, or allow=all for any valid certificate"
                raise SettingError("client-auth", "required", accepts)
            if self.client_ca is None and self.authority is None:
                raise SettingError(
                    "client-auth", str(self.client_auth), "client-ca beside it: a PEM file of authorities"
                )
        if self.send_proxy is not SendProxy.OFF and self.mode is Mode.HTTP:
            raise SettingError(
                "send-proxy", str(self.send_proxy), "mode=tcp beside it (http mode has headers for that)"
            )

    def _check_outbound(self) -> None:
        """Whom to call is verified, or not called; and no port is meant twice."""
        if not self.outbound:
            return
        written = _written(self.outbound)
        if self.client_ca is None and self.authority is None:
            accepts = "client-ca beside it: a PEM file of the authorities that servers' certificates must come from"
            raise SettingError("outbound", written, accepts)
        back, taken = self.backend_addr, {each.local.port for each in self.outbound}
        ours = [("frontend-addr", port) for port in self._frontend_ports]
        if self.redirect_addr:
            ours.append(("redirect-addr", self.redirect_addr.port))
        if isinstance(back, Address) and back.host.lower() in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"):
            ours.append(("backend-addr", back.port))
        for name, port in ours:
            if port in taken:
                value = getattr(self, name.replace("-", "_"))
                raise SettingError("outbound", written, f"another port than {port}, which is that of {name}={value}")

    @property
    def _frontend_ports(self) -> tuple[int, ...]:
        """Of which it takes one."""
        front = self.frontend_addr
        return (front.port,) if isinstance(front, Address) else AUTO_PORTS

    @property
    def own_ports(self) -> frozenset[int]:
        """Those of its own listeners that are known before it listens, the redirect's left out."""
        front = self._frontend_ports if isinstance(self.frontend_addr, Address) else ()
        return frozenset((*front, *(each.local.port for each in self.outbound)))

    @property
    def believes(self) -> bool:
        """Somebody's certificate is verified: a client's, or that of a server that is called."""
        return self.client_auth is not ClientAuth.NONE or bool(self.outbound)

    @property
    def certificate_source(self) -> str:
        """Where the certificate is from: `files`, `acme`, `authority` or `self-signed`, the first that is given."""
        if self.cert or self.cert_dir:
            return "files"
        return "acme" if self.acme else "authority" if self.authority else "self-signed"

    @classmethod
    def resolve(cls, flags: Mapping[str, str], environ: Mapping[str, str]) -> Settings:
        """
        Settings from the command line (by setting name), then the environment, then the defaults.

        An empty environment variable counts as not set: compose files write `VAR=` for that. Raises SettingError.
        """
        values: dict[str, Any] = {}
        for spec in specs():
            if spec.name in flags:
                values[spec.attribute] = spec.read(flags[spec.name], f"--{spec.name}")
                continue
            for variable in spec.variables:
                if environ.get(variable):
                    values[spec.attribute] = spec.read(environ[variable], variable)
                    break
        return cls(**values)

    def as_flags(self) -> list[str]:
        """The command line that says the same."""
        values = ((spec.name, getattr(self, spec.attribute)) for spec in specs())
        return [f"--{name}={_written(value)}" for name, value in values if value is not None]


def _written(value: object) -> str:
    """`value` as a user would write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.9f}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def specs() -> Iterator[Spec]:
    """Every setting, in the order in which help and documentation show them."""
    for each in fields(Settings):
        name = each.name.replace("_", "-")
        label = each.metadata["label"]
        yield Spec(
            name=name,
            default=each.metadata["text"],
            accepts=each.metadata["accepts"],
            help=each.metadata["help"],
            parse=each.metadata["parse"],
            legacy=each.metadata["legacy"],
            short=each.metadata["short"],
            label=name if label == "" else label,
        )


def spec_for_label(name: str) -> Spec | None:
    """The setting that the label `byfahrer.<name>` sets, by its short or its full name."""
    return next((s for s in specs() if s.label is not None and name in (s.label, s.name)), None)
