"""Where the engine is, from flags and environment, and how its client's failures are told to people."""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from docker.errors import APIError, DockerException
from docker.tls import TLSConfig
from docker.utils import parse_host

from byfahrer.engine.errors import (
    AddressError,
    ConflictError,
    EngineError,
    NotFoundError,
    RejectedError,
    UnreachableError,
)

DEFAULT_HOST = "unix:///var/run/docker.sock"
_MARKUP = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where the engine is, and what proves who we are."""

    host: str = DEFAULT_HOST
    tls: TLSConfig | None = None
    api_version: str = "auto"

    @classmethod
    def resolve(cls, host: str, environ: Mapping[str, str]) -> EngineAddress:
        """From `DOCKER_HOST` or what overrides it, and the other variables of Docker's own client; AddressError."""
        host = host or environ.get("DOCKER_HOST") or DEFAULT_HOST
        folder = environ.get("DOCKER_CERT_PATH") or ""
        # As Docker's own client: a folder alone turns no TLS on, and what TLS there is, is verified.
        secured = bool(environ.get("DOCKER_TLS_VERIFY")) and not host.startswith("unix:")
        try:
            if host.startswith(("ssh:", "npipe:")):
                raise ValueError(host)
            parse_host(host, is_win32=False, tls=secured)
        except (DockerException, ValueError):
            expected = "unix:///path, tcp://host:port or http(s)://host:port"
            raise AddressError(f"DOCKER_HOST={host!r}: expected {expected}") from None
        tls = _tls(Path(folder) if folder else Path.home() / ".docker") if secured else None
        return cls(host, tls, environ.get("DOCKER_API_VERSION") or "auto")


def _tls(folder: Path) -> TLSConfig:
    cert, key, ca = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
    for path in (cert, key, ca):
        if not path.is_file():
            raise AddressError(f"DOCKER_CERT_PATH={str(folder)!r}: expected a folder with {path.name}")
    return TLSConfig(client_cert=(str(cert), str(key)), ca_cert=str(ca), verify=True)


@contextmanager
def mapped(host: str) -> Iterator[None]:
    """Foreign exceptions end here. By status and errno, never by text: engines word their errors differently."""
    try:
        yield
    except EngineError:
        raise
    except APIError as error:
        raise _said_no(error) from error
    except requests.Timeout as error:
        raise UnreachableError(f"no answer in time from the engine at {host}") from error
    except requests.TooManyRedirects as error:
        raise RejectedError(requests.codes.moved_permanently, "it redirects, which no engine does to us") from error
    except (requests.RequestException, DockerException, OSError) as error:
        raise UnreachableError(_unreachable(host, error)) from error


def _said_no(error: APIError) -> EngineError:
    status = error.status_code or 500
    text = str(error.explanation or error)
    if text.lstrip().startswith("<"):  # a proxy before the engine may answer with a page for browsers
        text = _MARKUP.sub(" ", text)
    message = " ".join(text.split())[:500]
    if status == requests.codes.not_found:
        return NotFoundError(message)
    if status == requests.codes.conflict:
        return ConflictError(message)
    return RejectedError(status, message)


def _unreachable(host: str, error: BaseException) -> str:
    chain = list(_causes(error))
    # An SSLError is an OSError too, with numbers of its own.
    numbers = {cause.errno for cause in chain if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError)}
    if errno.EACCES in numbers or errno.EPERM in numbers:
        return f"no permission to use the engine at {host}: run as root, or as a member of the socket's group (docker)"
    if errno.ENOENT in numbers:
        return f"no engine at {host}: start Docker, or say where it is with --docker-host or DOCKER_HOST"
    if errno.ECONNREFUSED in numbers:
        return f"nobody listens at {host}: start Docker, or say where it is with --docker-host or DOCKER_HOST"
    for cause in chain:
        if isinstance(cause, ssl.SSLError):
            return (
                f"TLS with the engine at {host} failed: {getattr(cause, 'reason', None) or cause}; see DOCKER_CERT_PATH"
            )
        if isinstance(cause, TimeoutError):
            return f"no answer in time from the engine at {host}"
    return f"the engine at {host} cannot be reached: {' '.join(str(chain[-1]).split())[:300]}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was made of: requests and urllib3 hide the OSError among the arguments."""
    seen: set[int] = set()
    left: list[object] = [error]
    while left:
        each = left.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]
        elif isinstance(each, tuple):
            left += each
