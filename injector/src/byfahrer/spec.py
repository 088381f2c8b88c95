"""
What a target's labels become: a sidecar's spec, or problems that name the label. Pure.

Values reach the sidecar as its environment, as the user wrote them, after sslterm's own settings have read them here:
what would stop the sidecar is refused before there is one.
"""

from __future__ import annotations

import difflib
import math
import posixpath
import re
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from byfahrer import limits, secret
from byfahrer.allow import Reference, is_image
from byfahrer.labels import (
    CPUS,
    LEAF_LIFETIME,
    LONG,
    MEMORY,
    MOST_SHOWN,
    NAMES,
    NOT_FROM_IMAGES,
    OTHERS,
    OURS,
    PIDS,
    PROXY_IMAGE,
    SETTINGS,
    SHORT,
    SWARM_SERVICE_NAME,
    VOLUME_FROM,
    VOLUME_PATH,
    VOLUME_PATH_DEFAULT,
    Annotation,
    Annotations,
    LabelError,
)
from byfahrer.model import NO_SERVICE, Container, Mount, Service, SidecarSpec, one_line
from sslterm.settings import SettingError, Settings, Spec, parse_duration, parse_names, specs

VOLUME_AT: Final = "/run/target-ssl"
"""Where a sidecar has the target's files: at the target's own path they could cover the sidecar's program."""
CLIENT_CA_AT: Final = "/run/target-ca"

AUTHORITY_AT: Final = "/run/byfahrer"
"""Where a sidecar has the folder with the authority's socket."""
SOCKET: Final = "authority.sock"
PRIVATE_AT: Final = "/run/sslterm"
"""A volume of each sidecar's own, gone with it: what is in it shows in no `docker inspect`."""
TOKEN_AT: Final = posixpath.join(PRIVATE_AT, "token")
ACME_AT: Final = "/var/lib/sslterm"
ACME_FOLDER: Final = "acme"
"""Within that volume: its uppermost folder belongs to root, and the engine lets nobody change that."""
ACME_VOLUME: Final = "byfahrer-acme-"
ACME_SERVICE_VOLUME: Final = "byfahrer-acme.swarm-"
"""No container can have a name by which it gets the volume of a service."""

SPARE_TIME: Final = 2
"""Seconds between the end of a sidecar's own drain and the end that is put to it from outside."""

LONGEST_DRAIN: Final = 24 * 3600
"""Seconds that a label may ask for, and that are taken over from a target's own stop timeout."""

MOST_ERRORS: Final = 5
"""Of one target; an image can carry labels by the ten thousand."""
LONGEST_VALUE: Final = 16384
"""
Characters of a label that are read. An image may carry one of many megabytes, and reading a list takes some seconds for
each of them, at every look, in which nobody else is looked after. The kernel takes 128 KiB in one variable.
"""
LONGEST_GUESS: Final = 40
"""Characters of a name for which a similar one is looked for."""
SHORTEST_LEAF, LONGEST_LEAF = 60.0, 90 * 86400.0
"""Seconds that a certificate may be good for."""
CLIENT_CA: Final = "client-ca"


@dataclass(frozen=True, slots=True)
class Log:
    """Where the operator wants the log of every sidecar."""

    driver: str = ""
    """Of the engine's; empty for its own choice."""
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Never shown: some drivers want a token here."""


NO_LOG: Final = Log()

_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")


def sidecar_spec(
    found: Annotations,
    target: Container,
    service: Service = NO_SERVICE,
    *,
    user: str,
    bounds: limits.Limits,
    log: Log = NO_LOG,
    authority: Mount | None = None,
    labels: tuple[tuple[str, str], ...] = (),
) -> SidecarSpec | list[LabelError]:
    """The spec that the annotations of this target describe, or everything that is wrong with them."""
    errors = [each.error(f"at most {LONGEST_VALUE} characters") for _, each in sorted(found.items()) if _long(each)]
    if errors:
        return _few(errors)
    environ: dict[str, str] = {}
    taken: tuple[Mount, ...] = ()
    image = found[PROXY_IMAGE].value.strip()
    if not is_image(image):
        errors.append(found[PROXY_IMAGE].error("the name of a sidecar image such as sslterm"))
    try:
        if VOLUME_FROM in found and found[VOLUME_FROM].switch():
            files, taken = _certificate_of(found, target.mounts)
            for setting in specs():
                if setting.name in files:
                    environ |= _environment(setting, files[setting.name], image)
    except LabelError as error:
        errors.append(error)
    for name, annotation in sorted(item for item in found.items() if item[0] in SETTINGS):
        try:
            if annotation.inherited and name in NOT_FROM_IMAGES:
                raise annotation.error(f"it on the container or its service, not in an image ({LONG}{name} counts)")
            environ |= _setting(SETTINGS[name], annotation, image)
            if name == CLIENT_CA:
                place, mount = _shared(annotation, target.mounts, CLIENT_CA_AT)
                environ |= _environment(SETTINGS[name], place, image)
                taken += (mount,)
        except LabelError as error:
            errors.append(error)
    try:
        files, mounts = secret.certificate(found, target, service)
        for setting in specs():
            if setting.name in files:
                environ |= _environment(setting, files[setting.name], image)
        taken += mounts
    except LabelError as error:
        errors.append(error)
    errors += _of_certificates(found)
    resources, capabilities, wrong = limits.asked(found)
    errors += wrong
    unknown = sorted(found.keys() - SETTINGS.keys() - OTHERS)
    errors += [_unknown(name, found[name]) for name in unknown[:MOST_ERRORS]]
    if errors:
        return _few(errors, len(unknown[MOST_ERRORS:]))
    # An image of 2017 asks nobody for a certificate.
    if authority and not _of_2017(image):
        environ["SSLTERM_AUTHORITY"] = posixpath.join(AUTHORITY_AT, SOCKET)
        environ["SSLTERM_AUTHORITY_TOKEN"] = TOKEN_AT
        taken += (authority, Mount(kind="volume", source="", destination=PRIVATE_AT, writable=True))
    if not _of_2017(image):
        # It and the one that comes after it are to share their port for a while.
        environ["SSLTERM_HAND_OVER"] = "on"
        # Negative: for as long as it takes, which no sidecar grants.
        if target.stop_timeout is not None and target.stop_timeout >= 0 and "drain-timeout" not in found:
            environ["SSLTERM_DRAIN_TIMEOUT"] = f"{min(max(target.stop_timeout - SPARE_TIME, 1), LONGEST_DRAIN)}s"
    if environ.get("SSLTERM_ACME"):
        environ["SSLTERM_ACME_DIR"] = posixpath.join(ACME_AT, ACME_FOLDER)
        taken += (Mount(kind="volume", source=_acme_volume(target), destination=ACME_AT, writable=True),)
    try:
        settings = Settings.resolve({}, environ)
    except SettingError as error:
        at_fault = found.get(error.name, Annotation(f"{SHORT}{error.name}", error.value))
        return [at_fault.error(_in_labels(error.accepts))]
    if settings.drain_timeout > LONGEST_DRAIN:
        # What it replaces serves on until it has ended, and the label may have come with an image.
        return [found["drain-timeout"].error(f"a duration of at most {LONGEST_DRAIN // 3600}h")]
    return SidecarSpec(
        image=image,
        env=tuple(sorted(environ.items())),
        mounts=taken,
        user=limits.as_root(user) if capabilities else user,
        memory=resources.get(MEMORY, bounds.memory.default),
        pids=resources.get(PIDS, bounds.pids.default),
        cpus=resources.get(CPUS, bounds.cpus.default),
        capabilities=capabilities,
        log_driver=log.driver,
        log_options=log.options,
        stop_timeout=math.ceil(settings.drain_timeout) + SPARE_TIME,
        labels=labels,
    )


def _long(annotation: Annotation) -> bool:
    return len(annotation.value) > LONGEST_VALUE


def _few(errors: list[LabelError], others: int = 0) -> list[LabelError]:
    """The first of them, and how many there are besides."""
    more = len(errors) + others - MOST_ERRORS
    return [*errors[:MOST_ERRORS], *([LabelError(f"and {more} more")] if more > 0 else [])]


def _setting(setting: Spec, annotation: Annotation, image: str) -> dict[str, str]:
    """The environment that a label stands for."""
    try:
        setting.read(annotation.value, annotation.label)
    except SettingError as error:
        raise annotation.error(error.accepts) from None
    return _environment(setting, annotation.value, image)


def _environment(setting: Spec, value: str, image: str) -> dict[str, str]:
    environ = {setting.variable: value}
    # An image of 2017 knows the names of 2017 only.
    if setting.legacy and _of_2017(image):
        environ[setting.legacy] = value
    return environ


def _of_2017(image: str) -> bool:
    return Reference.parse(image).repository.rpartition("/")[2].startswith("gosslterm")


def _in_labels(accepts: str) -> str:
    """What a setting accepts, with the labels' names of the other settings that are spoken of."""

    def label(found: re.Match[str]) -> str:
        setting = SETTINGS.get(found[0])
        return f"{SHORT}{setting.label}" if setting else found[0]

    return re.sub(r"(?<![\w.-])[a-z-]+(?=[ ]beside|=)", label, accepts)


def _of_certificates(found: Annotations) -> list[LabelError]:
    """What is wrong with the labels that the authority reads."""
    errors = []
    for name, accepts, parse in (
        (NAMES, "DNS names and IP addresses between commas, such as shop.example.org", names),
        (LEAF_LIFETIME, "a duration from 1m to 90d such as 12h", leaf_lifetime),
    ):
        try:
            if name in found:
                parse(found[name].value)
        except ValueError:
            errors.append(found[name].error(accepts))
    return errors


def names(text: str) -> tuple[str, ...]:
    """Names and addresses between commas, the first label of a name perhaps `*`; ValueError."""
    if len(text) > LONGEST_VALUE:
        raise ValueError(text)
    found = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip().lower())))
    for name in found:
        try:
            ip_address(name)
        except ValueError:
            parse_names(name.removeprefix("*."))
    return found


def leaf_lifetime(text: str) -> float:
    """Seconds for which a certificate is good; ValueError."""
    days = re.fullmatch(r"(\d{1,2})d", text)
    seconds = float(days[1]) * 86400 if days else parse_duration(text)
    if not SHORTEST_LEAF <= seconds <= LONGEST_LEAF:
        raise ValueError(text)
    return seconds


def _acme_volume(target: Container) -> str:
    """Of the same name for whoever comes in the target's place, and of another for whoever does not."""
    service = target.labels.get(SWARM_SERVICE_NAME, "")
    # The name of a task is new for each; a service's name from an image could be another service's.
    if SWARM_SERVICE_NAME in target.inherited or not _VOLUME.fullmatch(service):
        return f"{ACME_VOLUME}{target.name}"
    return f"{ACME_SERVICE_VOLUME}{service}"


def _unknown(name: str, annotation: Annotation) -> LabelError:
    if any(name == setting.name for setting in specs()):
        advice = f"; {VOLUME_FROM} takes a certificate" if name in ("cert", "key") else ""
        return LabelError(f"{annotation}: this setting cannot be set by a label{advice}")
    known = [*OURS[:2], *(setting.label for setting in specs() if setting.label), *OURS[2:]]
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_GUESS else []
    if near:
        return LabelError(f"{annotation}: there is no such label; did you mean {SHORT}{near[0]}?")
    return LabelError(f"{annotation}: there is no such label; there are {', '.join(known)}")


def _certificate_of(found: Annotations, mounts: tuple[Mount, ...]) -> tuple[dict[str, str], tuple[Mount, ...]]:
    """The settings by which a sidecar finds its target's certificate, and the one mount that it needs for that."""
    where = found.get(VOLUME_PATH, Annotation(VOLUME_PATH, VOLUME_PATH_DEFAULT))
    folder, mount = _shared(where, mounts, VOLUME_AT)
    return {"cert": f"{folder}/cert.pem", "key": f"{folder}/key.pem"}, (mount,)


def _shared(where: Annotation, mounts: tuple[Mount, ...], at: str) -> tuple[str, Mount]:
    """Where a sidecar finds the target's file or folder that a label names, and the mount by which it does."""
    if not where.value.startswith("/") or "\0" in where.value:
        raise where.error("an absolute path inside the target")
    path = posixpath.normpath("/" + where.value.lstrip("/"))
    covering = [m for m in mounts if path == m.destination or path.startswith(m.destination.rstrip("/") + "/")]
    shared = max(covering, key=lambda m: len(m.destination), default=None)
    # A socket holds no certificate, and the engine's own is not for sidecars.
    if shared is None or shared.kind not in ("bind", "volume") or shared.source.endswith(".sock"):
        has = ", ".join([one_line(m, MOST_SHOWN) for m in sorted(m.destination for m in mounts)][:MOST_ERRORS])
        raise where.error(f"a path in a volume or bind mount of the target, which has: {has or 'none'}")
    place = posixpath.normpath(posixpath.join(at, posixpath.relpath(path, shared.destination)))
    return place, replace(shared, destination=at, writable=False)
