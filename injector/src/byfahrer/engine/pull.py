"""
Pulls an image, with the credentials of Docker's own configuration.

The engine says in a stream of JSON how it goes on, and that it failed inside of a 200. Credentials are read for each
pull anew: those of the big clouds are good for some hours. Whatever is wrong with them, the pull is tried: most images
are anybody's to have, and Docker's own client does the same. People learn of it when it fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from docker import APIClient, auth
from docker.errors import APIError, DockerException
from docker.utils import config, parse_repository_tag
from urllib3.exceptions import HTTPError

from byfahrer.engine.errors import AddressError, PullError, UnreachableError
from byfahrer.model import one_line

STALLED: Final = 120.0
"""Seconds without a word from the engine, which says several a second while bytes come."""
LONGEST: Final = 1800.0
"""Seconds for a pull as a whole: a registry could trickle for ever, and the target would wait for as long."""
AT_ONCE: Final = 3
"""Images pulled at the same time."""
LONGEST_REASON: Final = 300
_BROKEN = (DockerException, ValueError, TypeError, AttributeError, KeyError)
"""What the SDK raises at a configuration that is none, beside what it means to."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves to a registry who we are."""

    known: Mapping[str, Any] = field(repr=False)
    """Empty for none."""
    said: str
    """Where they are from, or why there are none; never what they are."""


def check_configuration() -> None:
    """AddressError, if the SDK would stumble over Docker's configuration, which it reads for each session."""
    try:
        general: Any = config.load_general_config()
        dict(general.get("proxies", {}).get("default", {}))
        auth.load_config(config_dict=general)
    except _BROKEN:
        accepts = "Docker's client configuration: JSON, in which each 'auth' of 'auths' is user:password in base64"
        raise AddressError(f"{_file()}: expected {accepts}") from None


def credentials(image: str) -> Credentials:
    """Those for the registry of an image: an entry of the configuration's, or what its credential helper says."""
    registry, _ = auth.resolve_repository_name(parse_repository_tag(image)[0])
    path = _file()
    if path is None:
        return Credentials({}, f"no credentials for {registry}: there is no ~/.docker/config.json")
    try:
        # The SDK takes what it cannot open for an empty one.
        with Path(path).open("rb"):
            found: Any = auth.load_config(config_dict=config.load_general_config())
        helper = found.get_credential_store(registry)
        if helper and shutil.which(f"docker-credential-{helper}") is None:
            return Credentials({}, f"no credentials: {path} names docker-credential-{helper}, which is not in PATH")
    except OSError as error:
        return Credentials({}, f"no credentials: {path}: {error.strerror}")
    except _BROKEN:
        return Credentials({}, f"no credentials: {path} is broken")
    try:
        known = found.resolve_authconfig(registry)
    except _BROKEN:
        return Credentials({}, f"no credentials: docker-credential-{helper} failed")
    if not known:
        return Credentials({}, f"no credentials for {registry} in {path}")
    source = f"of docker-credential-{helper}" if helper else f"in {path}"
    return Credentials(known, f"with the credentials for {registry} {source}")


def _file() -> str | None:
    # In types-docker it may be as much as a number.
    path = config.find_config_file()
    return str(path) if path else None


def pull(client: APIClient, image: str, goes_on: Callable[[], bool]) -> None:
    """
    Return when the image is there; PullError. Blocks, and asks at each word from the engine whether it `goes_on`.

    Leaving the stream ends the pull, unless somebody else waits for the same layers.
    """
    proof = credentials(image)
    repository, tag = parse_repository_tag(image)
    try:
        for line in client.pull(repository, tag=tag, stream=True, decode=True, auth_config=dict(proof.known)):
            if failure := _failure(line):
                raise PullError(_reason(failure, proof))
            if not goes_on():
                return
        # A stream that breaks off ends as one that is complete.
        client.inspect_image(image)  # type: ignore[no-untyped-call]
    except APIError as error:
        raise PullError(_reason(str(error.explanation or error), proof)) from error
    except HTTPError as error:
        raise UnreachableError("the engine's word on a pull broke off") from error


def _failure(line: Any) -> str:  # noqa: ANN401 - whatever JSON comes
    """What went wrong, if that is what a line says."""
    if not isinstance(line, dict) or not (line.get("error") or line.get("errorDetail")):
        return ""
    detail = line.get("errorDetail")
    said = detail.get("message") if isinstance(detail, dict) else None
    return str(said or line.get("error") or "unknown")


def _reason(text: str, proof: Credentials) -> str:
    return f"{one_line(' '.join(text.split()), LONGEST_REASON)} ({proof.said})"
