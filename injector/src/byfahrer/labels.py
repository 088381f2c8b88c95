"""
The labels: which there are, on whom, and what they say; what a sidecar is made of them is `spec`'s. Pure.

A label `byfahrer.<name>` may also be written `org.qnib.byfahrer.<name>`; the short form wins, and a container's own
label wins over the one on its Swarm service, and both over one that came with the image, whose maker must not take back
what the operator asks for. Values reach the sidecar as its environment, as the user wrote them, after sslterm's own
settings have read them here: what would stop the sidecar is refused before there is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from byfahrer import __version__
from byfahrer.model import NOTHING, Container, SidecarSpec, one_line
from sslterm.settings import SettingError, Settings, Spec, specs

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
HAND_OVER: Final = "sslterm.hand-over"
"""On images of sslterm: the signal at which what is made from them leaves as soon as a successor has its port."""
SIGNALS: Final = ("SIGUSR1", "SIGUSR2")
"""Those that an image may ask for: it must not have its sidecars killed by us."""
NAMES: Final = "names"
"""More names for a target's certificate."""
LEAF_LIFETIME: Final = "leaf-lifetime"
MEMORY: Final = "memory"
PIDS: Final = "pids"
CPUS: Final = "cpus"
CAP_ADD: Final = "cap-add"
CERT: Final = "cert"
"""A target's own certificate, and its key, from Swarm secrets."""
KEY: Final = "key"
_BOOKKEEPING: Final = frozenset((TARGET, TARGET_NAME, SPEC, VERSION, MANUAL))

SWARM_SERVICE: Final = "com.docker.swarm.service.id"
SWARM_SERVICE_NAME: Final = "com.docker.swarm.service.name"
VOLUME_FROM: Final = "org.qnib.gosslterm.ssl.volume.from"
VOLUME_PATH: Final = "org.qnib.gosslterm.ssl.volume.path"
OURS: Final = (PROXY_IMAGE, ENABLE, NAMES, LEAF_LIFETIME, MEMORY, PIDS, CPUS, CAP_ADD, CERT, KEY)
"""Labels that are no setting of sslterm's."""
OTHERS: Final = frozenset((*OURS, VOLUME_FROM, VOLUME_PATH))
VOLUME_PATH_DEFAULT: Final = "/opt/qnib/ssl"
NOT_FROM_IMAGES: Final = frozenset({"outbound"})
"""Settings by which a target is spoken for to others: for its operator to say, not for whoever made its image."""
MOST: Final = 10_000
"""Labels of a container that are looked through: those of an image may be a million, which takes some seconds."""
MOST_SHOWN: Final = 100
"""Characters of a label's name or value in a message."""

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
SETTINGS: Final[Mapping[str, Spec]] = {
    name: setting for setting in reversed(list(specs())) if setting.label for name in (setting.name, setting.label)
}

_YES_NO = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class LabelError(ValueError):
    """A label that cannot be used: `str()` names it and says what it accepts."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A label as its user wrote it."""

    label: str
    value: str
    inherited: bool = False
    """It came with the target's image, and nobody else said anything."""

    def __str__(self) -> str:
        """For people: one line, whatever its user wrote."""
        return f"{one_line(self.label, MOST_SHOWN)}={shown(self.value)}"

    def error(self, accepts: str) -> LabelError:
        return LabelError(f"{self}: expected {accepts}")

    def switch(self) -> bool:
        """The value as yes or no; LabelError if it is neither."""
        try:
            return _YES_NO[self.value.strip().lower()]
        except KeyError:
            raise self.error("true or false") from None


Annotations = Mapping[str, Annotation]
"""By bare name: `proxy-image`; settings by their full name: `frontend-addr`."""


def shown(value: str) -> str:
    """A value in a message: quoted, in one line, and not at any length."""
    return repr(value if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]}…")


def target_of(container: Container) -> str | None:
    """
    The target's ID, if this is a sidecar.

    A label can stand on any container, by its image too. Only who also shares the target's network is a sidecar:
    whoever can have that is in the target's namespace already, and gains nothing by being taken for one.
    """
    target_id = claim(container.labels)
    return target_id if target_id and container.network_mode == f"container:{target_id}" else None


def claim(labels: Mapping[str, str]) -> str | None:
    """Whose sidecar something with these labels would be: good for a look there, and for nothing else."""
    target_id = labels.get(TARGET, "")
    return target_id if _CONTAINER_ID.fullmatch(target_id) else None


def mentions(labels: Mapping[str, str]) -> bool:
    """Whether a container with these labels could be a target; cheap, for events and lists."""
    return SWARM_SERVICE in labels or any(map(_may_ask, labels))


def is_ours(label: str) -> bool:
    """Whether a label of a service can mean anything to us."""
    return _may_ask(label) or label in (VOLUME_FROM, VOLUME_PATH)


def _may_ask(label: str) -> bool:
    return label.startswith((SHORT, LONG)) and label not in _BOOKKEEPING


def hints(labels: Mapping[str, str], more: Iterable[str] = ()) -> dict[str, str]:
    """Of any number of labels the few that `claim` and `mentions` go by, and `more`: an image may have megabytes."""
    found = {label: labels[label] for label in (TARGET, SWARM_SERVICE, *more) if label in labels}
    first = next(filter(_may_ask, labels), None)
    return found if first is None else {first: "", **found}


def collect(
    own: Mapping[str, str], service: Mapping[str, str] = NOTHING, inherited: frozenset[str] = frozenset()
) -> dict[str, Annotation]:
    """Our labels on a container and on its service, the strongest of each name. `inherited`: those of its image."""
    found: dict[str, Annotation] = {}
    image = {label: value for label, value in own.items() if label in inherited}
    own = {label: value for label, value in own.items() if label not in inherited}
    ranks = (image, service, own)
    for labels, prefix in ((labels, prefix) for labels in ranks for prefix in (LONG, SHORT)):
        for label in sorted(label for label in labels if label.startswith(prefix)):
            if label not in _BOOKKEEPING:
                name = label.removeprefix(prefix)
                setting = SETTINGS.get(name)
                found[setting.name if setting else name] = Annotation(label, labels[label], labels is image)
    for label in (VOLUME_FROM, VOLUME_PATH):
        for labels in ranks:
            if label in labels:
                found[label] = Annotation(label, labels[label])
    return found


def asks(found: Annotations) -> bool:
    """Whether a sidecar is asked for, rightly or wrongly; LabelError if that cannot be told."""
    return PROXY_IMAGE in found and (ENABLE not in found or found[ENABLE].switch())


def without_trigger(found: Annotations, inherited: frozenset[str] = frozenset()) -> str:
    """What to say of labels that say how a sidecar is to be, but not that there is to be one; empty if nothing."""
    if PROXY_IMAGE in found or (ENABLE in found and not found[ENABLE].switch()):
        return ""
    # Those of an image are the word of its maker, who leaves it to others whether there is a sidecar.
    lone = [each for _, each in sorted(found.items()) if each.label.startswith((SHORT, LONG))]
    lone = [each for each in lone if each.label not in inherited]
    return (
        str(lone[0].error(f"{SHORT}{PROXY_IMAGE} beside it, such as sslterm: without it there is no sidecar"))
        if lone
        else ""
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
    return {k: v for k, v in sidecar.labels.items() if k.startswith(SHORT) and k not in _BOOKKEEPING}


def addresses(environ: Mapping[str, str]) -> tuple[str, str]:
    """Frontend and backend of a sidecar with this environment; empty if it makes no sense."""
    try:
        settings = Settings.resolve({}, environ)
    except SettingError:
        return "", ""
    return str(settings.frontend_addr), str(settings.backend_addr)
