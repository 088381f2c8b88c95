"""
The labels: which there are, and how those on a target become a sidecar's spec, or problems that name the label. Pure.

A label `byfahrer.<name>` may also be written `org.qnib.byfahrer.<name>`; the short form wins, and a container's own
label wins over the one on its Swarm service. Values reach the sidecar as its environment, as the user wrote them, after
sslterm's own settings have read them here: what would stop the sidecar is refused before there is one.
"""

from __future__ import annotations

import difflib
import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from byfahrer import __version__
from byfahrer.allow import Reference
from byfahrer.model import NOTHING, Container, Mount, SidecarSpec
from sslterm.settings import SettingError, Settings, spec_for_label, specs

SHORT: Final = "byfahrer."
LONG: Final = "org.qnib.byfahrer."
PROXY_IMAGE: Final = "proxy-image"
ENABLE: Final = "enable"

# On sidecars, written by us only.
TARGET: Final = "byfahrer.target"
TARGET_NAME: Final = "byfahrer.target-name"
SPEC: Final = "byfahrer.spec"
VERSION: Final = "byfahrer.version"
MANUAL: Final = "byfahrer.manual"

SWARM_SERVICE: Final = "com.docker.swarm.service.id"
VOLUME_FROM: Final = "org.qnib.gosslterm.ssl.volume.from"
VOLUME_PATH: Final = "org.qnib.gosslterm.ssl.volume.path"
VOLUME_PATH_DEFAULT: Final = "/opt/qnib/ssl"

_YES_NO = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class LabelError(ValueError):
    """A label that cannot be used: `str()` names it and says what it accepts."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A label as its user wrote it."""

    label: str
    value: str

    def error(self, accepts: str) -> LabelError:
        return LabelError(f"{self.label}={self.value!r}: expected {accepts}")

    def switch(self) -> bool:
        """The value as yes or no; LabelError if it is neither."""
        try:
            return _YES_NO[self.value.strip().lower()]
        except KeyError:
            raise self.error("true or false") from None


Annotations = Mapping[str, Annotation]
"""By bare name: `proxy-image`; settings by their full name: `frontend-addr`."""


def target_of(labels: Mapping[str, str]) -> str | None:
    """The target's ID, if these are a sidecar's labels."""
    return labels.get(TARGET) or None


def mentions(labels: Mapping[str, str]) -> bool:
    """Whether a container with these labels could concern us at all; cheap, for events and lists."""
    return SWARM_SERVICE in labels or any(label.startswith((SHORT, LONG)) for label in labels)


def collect(own: Mapping[str, str], service: Mapping[str, str] = NOTHING) -> dict[str, Annotation]:
    """Our labels on a container and on its service, the strongest of each name."""
    found: dict[str, Annotation] = {}
    for labels, prefix in ((service, LONG), (service, SHORT), (own, LONG), (own, SHORT)):
        for label in sorted(labels):
            if label.startswith(prefix):
                name = label.removeprefix(prefix)
                setting = spec_for_label(name)
                found[setting.name if setting else name] = Annotation(label, labels[label])
    for label in (VOLUME_FROM, VOLUME_PATH):
        for labels in (service, own):
            if label in labels:
                found[label] = Annotation(label, labels[label])
    return found


def asks(found: Annotations) -> bool:
    """Whether a sidecar is asked for, rightly or wrongly; LabelError if that cannot be told."""
    return PROXY_IMAGE in found and (ENABLE not in found or found[ENABLE].switch())


def sidecar_spec(
    found: Annotations,
    mounts: tuple[Mount, ...],
    *,
    user: str,
    memory: int,
    labels: tuple[tuple[str, str], ...] = (),
) -> SidecarSpec | list[LabelError]:
    """The spec that the annotations of a target with these mounts describe, or everything that is wrong with them."""
    errors: list[LabelError] = []
    environ: dict[str, str] = {}
    taken: tuple[Mount, ...] = ()
    image = found[PROXY_IMAGE].value.strip()
    if not image:
        errors.append(found[PROXY_IMAGE].error("the name of a sidecar image such as sslterm"))
    for name, annotation in sorted(found.items()):
        try:
            environ |= _setting(name, annotation, image)
        except (LabelError, SettingError) as error:
            errors.append(LabelError(str(error)))
    try:
        if VOLUME_FROM in found and found[VOLUME_FROM].switch():
            files, taken = _certificate_of(found, mounts)
            environ |= files
    except LabelError as error:
        errors.append(error)
    if errors:
        return errors
    try:
        settings = Settings.resolve({}, environ)
    except SettingError as error:
        at_fault = found.get(error.name, Annotation(f"{SHORT}{error.name}", error.value))
        return [at_fault.error(error.accepts)]
    return SidecarSpec(
        image=image,
        env=tuple(sorted(environ.items())),
        mounts=taken,
        user=user,
        memory=memory,
        stop_timeout=math.ceil(settings.drain_timeout) + 2,
        labels=labels,
    )


def sidecar_labels(target: Container, spec: SidecarSpec) -> dict[str, str]:
    """Labels of the sidecar itself: all that a later byfahrer needs to know of it."""
    return dict(spec.labels) | {
        TARGET: target.id,
        TARGET_NAME: target.name,
        SPEC: spec.digest,
        VERSION: __version__,
        # Watchtower would re-create it under a new ID; renewing sidecars is our business.
        "com.centurylinklabs.watchtower.enable": "false",
    }


def wish_by_hand(image: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The labels that would say the same as `byfahrer inject --image … --set …`."""
    return {**{f"{SHORT}{name}": value for name, value in settings.items()}, f"{SHORT}{PROXY_IMAGE}": image}


def wish_of(sidecar: Container) -> dict[str, str]:
    """The labels by which a sidecar made by hand says what it is, as they would stand on the target; {} for others."""
    if sidecar.labels.get(MANUAL) != "true":
        return {}
    ours = {TARGET, TARGET_NAME, SPEC, VERSION, MANUAL}
    return {k: v for k, v in sidecar.labels.items() if k.startswith(SHORT) and k not in ours}


def addresses(environ: Mapping[str, str]) -> tuple[str, str]:
    """Frontend and backend of a sidecar with this environment; empty if it makes no sense."""
    try:
        settings = Settings.resolve({}, environ)
    except SettingError:
        return "", ""
    return str(settings.frontend_addr), str(settings.backend_addr)


def _setting(name: str, annotation: Annotation, image: str) -> dict[str, str]:
    """The environment that a label stands for."""
    if name in (PROXY_IMAGE, ENABLE, VOLUME_FROM, VOLUME_PATH):
        return {}
    setting = spec_for_label(name)
    if setting is None:
        raise _unknown(name, annotation)
    setting.read(annotation.value, annotation.label)
    environ = {setting.variable: annotation.value}
    # An image of 2017 knows the names of 2017 only.
    if setting.legacy and Reference.parse(image).repository.rpartition("/")[2].startswith("gosslterm"):
        environ[setting.legacy] = annotation.value
    return environ


def _unknown(name: str, annotation: Annotation) -> LabelError:
    written = f"{annotation.label}={annotation.value!r}"
    if any(name == setting.name for setting in specs()):
        return LabelError(f"{written}: this setting cannot be set by a label; {VOLUME_FROM} takes a certificate")
    known = [PROXY_IMAGE, ENABLE, *(setting.label for setting in specs() if setting.label)]
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return LabelError(f"{written}: there is no such label; did you mean {SHORT}{near[0]}?")
    return LabelError(f"{written}: there is no such label; there are {', '.join(known)}")


def _certificate_of(found: Annotations, mounts: tuple[Mount, ...]) -> tuple[dict[str, str], tuple[Mount, ...]]:
    """Where the target's volumes hold its certificate, and the one mount that must be shared for it."""
    where = found.get(VOLUME_PATH, Annotation(VOLUME_PATH, VOLUME_PATH_DEFAULT))
    if not where.value.startswith("/"):
        raise where.error("an absolute path inside the target")
    path = posixpath.normpath(where.value)
    covering = [m for m in mounts if path == m.destination or path.startswith(m.destination.rstrip("/") + "/")]
    shared = max(covering, key=lambda m: len(m.destination), default=None)
    if shared is None or shared.kind not in ("bind", "volume"):
        has = ", ".join(sorted(m.destination for m in mounts)) or "none"
        raise where.error(f"a path in a volume or bind mount of the target, which has: {has}")
    return {"SSLTERM_CERT": f"{path}/cert.pem", "SSLTERM_KEY": f"{path}/key.pem"}, (shared,)
