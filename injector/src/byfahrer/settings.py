"""The daemon's settings: built by the command line, read by the composition root and nobody else."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from byfahrer import spec
from byfahrer.allow import ImagePattern
from byfahrer.limits import RESOURCES, Bound, Limits, Resource, capability
from byfahrer.model import Mount
from byfahrer.plan import Policy, Pull
from byfahrer.spec import Log
from sslterm.settings import SIDECAR_UID, parse_duration, parse_names

ALLOW_IMAGES = ("sslterm*", "gosslterm*", "qnib/gosslterm*")
SIDECAR_USER = f"{SIDECAR_UID}:{SIDECAR_UID}"
SIDECAR_MEMORY = "256m"
"""Several times what a busy sidecar takes (15 MB, and up to 128 KiB for each direction of a connection)."""
SIDECAR_PIDS = "64"
SIDECAR_CPUS = "0"
"""No limit: a handshake is work for the CPU, and a sidecar that is held back holds back its target."""
RESYNC = "30s"
"""How long a lost event can hide."""

ADMIN_SOCKET = "admin.sock"
RUN_DIR = spec.AUTHORITY_AT
LEAF_LIFETIME = "24h"
"""A stolen certificate is of use for a day; renewed at half of that, so that half a day without byfahrer is no harm."""

_LONGEST_FOLDER = 90
_TRUST_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,253}[a-z0-9_])?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?", re.ASCII)
_USER = re.compile(r"[a-z0-9_][a-z0-9_.-]*(:[a-z0-9_][a-z0-9_.-]*)?")
_LOG_DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9/:._-]{0,200}")
_LOG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


class SettingError(ValueError):
    """A setting that cannot be used: `str()` is one line that names it and says what it accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Where the certificate authority keeps things, and what it signs."""

    run_dir: Path
    state_dir: Path
    trust_domain: str = ""
    permit_dns: tuple[str, ...] = ()
    leaf_lifetime: float = 86400.0
    """Seconds."""
    ca_cert: Path | None = None
    ca_key: Path | None = None
    ca_file: Path | None = None
    """A root that all nodes of a Swarm share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one injector does."""

    policy: Policy
    authority: Authority | None = None
    """None: every sidecar signs for itself."""
    peers: tuple[str, int] | None = None
    """The name and port under which the byfahrers of this Swarm find each other; None for none."""
    admin: Path | None = None
    """Socket for status and metrics; None for none."""
    resync: float
    """Seconds between full looks at the engine."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """As they were given, for commands that have to judge as the daemon does."""
    act: bool = True
    """False: watch, and say what would be done; nothing on the engine is changed, and nothing signed."""
    workers: int = 8
    """Targets at a time; each start is a tenth of a second of work for the engine."""


def policy(
    *,
    allow_image: tuple[str, ...] = ALLOW_IMAGES,
    only_label: tuple[str, ...] = (),
    sidecar_user: str = SIDECAR_USER,
    sidecar_memory: str = SIDECAR_MEMORY,
    sidecar_pids: str = SIDECAR_PIDS,
    sidecar_cpus: str = SIDECAR_CPUS,
    sidecar_log_driver: str = "",
    sidecar_log_opt: tuple[str, ...] = (),
    allow_capability: tuple[str, ...] = (),
    pull: str = Pull.MISSING,
    own_id: str = "",
    authority: Mount | None = None,
) -> Policy:
    """The operator's decisions, from what they wrote; lists may also be written with commas. SettingError."""
    if not _USER.fullmatch(sidecar_user):
        raise SettingError(f"--sidecar-user={sidecar_user!r}: expected user or user:group, as numbers or names")
    return Policy(
        allow_images=tuple(ImagePattern(text) for text in _parts(allow_image)),
        only_labels=tuple(_constraint(text) for text in _parts(only_label)),
        sidecar_user=sidecar_user,
        limits=Limits(
            **{
                each.label: _bound(each, text)
                for each, text in zip(RESOURCES, (sidecar_memory, sidecar_pids, sidecar_cpus), strict=True)
            },
            capabilities=frozenset(_capability(text) for text in _parts(allow_capability)),
        ),
        log=Log(_log_driver(sidecar_log_driver), tuple(sorted(dict(map(_log_option, sidecar_log_opt)).items()))),
        pull=_pull(pull),
        own_id=own_id,
        authority=authority,
    )


def authority(
    *,
    run_dir: str,
    state_dir: str,
    trust_domain: str = "",
    permit_dns: tuple[str, ...] = (),
    leaf_lifetime: str = LEAF_LIFETIME,
    ca_cert: str = "",
    ca_key: str = "",
    ca_file: str = "",
) -> Authority:
    """What the operator wrote of the authority. SettingError."""
    if ca_file and ca_cert:
        raise SettingError(f"--ca-file={ca_file!r}: expected no --ca-cert beside it: one of them signs")
    if bool(ca_cert) != bool(ca_key):
        given, missing = ("--ca-cert", "--ca-key") if ca_cert else ("--ca-key", "--ca-cert")
        raise SettingError(f"{given}={ca_cert or ca_key!r}: expected {missing} beside it")
    if trust_domain and not _TRUST_DOMAIN.fullmatch(trust_domain):
        accepts = "a name such as example.org, of lower case letters, digits, dots, dashes and underscores"
        raise SettingError(f"--trust-domain={trust_domain!r}: expected {accepts}")
    try:
        lifetime = spec.leaf_lifetime(leaf_lifetime)
    except ValueError:
        accepts = "a duration from 1m to 90d, such as 12h"
        raise SettingError(f"--leaf-lifetime={leaf_lifetime!r}: expected {accepts}") from None
    domains = _parts(permit_dns)
    for domain in domains:
        try:
            parse_names(domain)
        except ValueError:
            raise SettingError(f"--permit-dns={domain!r}: expected a DNS domain such as shop.example.org") from None
    return Authority(
        run_dir=_folder("--run-dir", run_dir),
        state_dir=_folder("--state-dir", state_dir),
        trust_domain=trust_domain,
        permit_dns=tuple(domain.lower() for domain in domains),
        leaf_lifetime=lifetime,
        ca_cert=Path(ca_cert) if ca_cert else None,
        ca_key=Path(ca_key) if ca_key else None,
        ca_file=Path(ca_file) if ca_file else None,
    )


def run_dir(environ: Mapping[str, str], *, root: bool, state_dir: str) -> str:
    """Where sockets go by default: a folder that is empty after a start of the machine, where there is one."""
    if root:
        return RUN_DIR
    own = environ.get("XDG_RUNTIME_DIR") or ""
    return f"{own}/byfahrer" if own.startswith("/") else f"{state_dir}/run"


def admin(text: str, *, state_dir: str, shared: Path | None = None) -> Path | None:
    """Where `--admin-addr` says that status and metrics are told: not in `shared`, which sidecars get. SettingError."""
    if text == "none":
        return None
    path = Path(text.removeprefix("unix:")) if text else Path(state_dir, ADMIN_SOCKET).absolute()
    if text and (not text.startswith("unix:") or not path.is_absolute() or "\0" in text):
        raise SettingError(f"--admin-addr={text!r}: expected unix:/path/to.sock or none")
    if shared is not None and shared in Path(posixpath.normpath(path)).parents:
        raise SettingError(f"--admin-addr={f'unix:{path}'!r}: expected a path outside of --run-dir, which sidecars get")
    return path


def peers(text: str, authority: Authority | None) -> tuple[str, int] | None:
    """Host and port that `--peers` names. SettingError."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not (colon and _HOST.fullmatch(host) and re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise SettingError(f"--peers={text!r}: expected host:port, such as tasks.byfahrer:9443")
    if authority is None:
        raise SettingError(f"--peers={text!r}: expected --authority on, whose certificates prove who is who")
    if authority.ca_file is None and authority.ca_cert is None:
        raise SettingError(f"--peers={text!r}: expected --ca-file or --ca-cert beside it: nodes need one authority")
    return host, int(port)


def _folder(option: str, text: str) -> Path:
    # As the engine will show it: a path with dots in it would be another one for who compares them.
    path = Path(f"/{posixpath.normpath(Path(text).absolute()).lstrip('/')}") if text else None
    # What a socket's address has room for, less the longest name of one.
    if path is None or "\0" in text or len(str(path).encode()) > _LONGEST_FOLDER:
        raise SettingError(f"{option}={text!r}: expected a path to a folder, at most {_LONGEST_FOLDER} bytes long")
    return path


def resync(text: str) -> float:
    """Seconds between full looks; SettingError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise SettingError(f"--resync={text!r}: expected a duration from 1s to 1h, such as 30s")
    return seconds


def own_container(files: Mapping[str, str]) -> str:
    """
    The container that this program runs in, by the contents of `/proc/self/cgroup` and `/proc/self/mountinfo`, or "".

    The control group is asked first: with another container's network, the mounted host name is that one's. Only what
    is mounted at /etc/hostname counts: while it copies into a container, the engine has its files mounted on the host.
    """
    for name, pattern in (
        ("cgroup", r"[/-]([0-9a-f]{64})(?:\.scope)?\s*$"),
        ("mountinfo", r"/containers/([0-9a-f]{64})/hostname /etc/hostname\s"),
    ):
        found = re.search(pattern, files.get(name, ""), re.MULTILINE)
        if found:
            return found[1]
    return ""


def _parts(texts: tuple[str, ...]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _constraint(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not key:
        raise SettingError(f"--only-label={text!r}: expected key=value, or key for any value")
    return key, value if equals else None


def _pull(text: str) -> Pull:
    try:
        return Pull(text)
    except ValueError:
        raise SettingError(f"--pull={text!r}: expected {', '.join(Pull)}") from None


def _bound(resource: Resource, text: str) -> Bound:
    try:
        return resource.bound(text)
    except ValueError as error:
        raise SettingError(f"{resource.flag}={text!r}: expected {error}") from None


def _capability(text: str) -> str:
    try:
        return capability(text)
    except ValueError:
        accepts = "the name of a Linux capability such as NET_RAW, and not ALL"
        raise SettingError(f"--allow-capability={text!r}: expected {accepts}") from None


def _log_driver(text: str) -> str:
    if text and not _LOG_DRIVER.fullmatch(text):
        raise SettingError(f"--sidecar-log-driver={text!r}: expected the name of a log driver such as json-file")
    return text


def _log_option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not _LOG_KEY.fullmatch(key):
        # The value may be a secret.
        raise SettingError(f"--sidecar-log-opt={key!r}: expected KEY=VALUE, such as max-size=10m")
    return key, value
