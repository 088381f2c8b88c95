"""What `byfahrer doctor` finds out about this machine: our folders, the sockets in them, and who serves there."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from byfahrer import rundir, settings
from byfahrer.engine.errors import EngineError
from byfahrer.engine.interface import Engine
from byfahrer.finding import OK, PROBLEM, WARNING, Finding
from byfahrer.model import Mount, one_line
from byfahrer.serving.client import get
from byfahrer.spec import SOCKET

ENOUGH: Final = 100 * 1024**2
"""Bytes of space, of which less is a warning."""
TOO_LITTLE: Final = 16 * 1024**2
"""What the largest file of ours may have while it is written anew."""
PATIENCE: Final = 2.0
"""Seconds for whoever serves a socket beside us."""
MOST_FILES: Final = 1000


def state(folder: Path) -> Iterator[Finding]:
    """Whether what the authority must not lose is safe in the state folder, and can be written."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        yield Finding("state", WARNING, f"{folder} is not there yet: byfahrer run makes it")
        return
    except OSError as error:
        yield Finding("state", WARNING, f"{folder}: {error.strerror}; run doctor as whoever runs byfahrer")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Finding("state", PROBLEM, f"{folder} is no folder: move it away, or choose another --state-dir")
        return
    problems = list(_permissions(folder, found))
    yield from problems
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        text = f"{folder} cannot be read and written by user {os.geteuid()}: run doctor as whoever runs byfahrer"
        yield Finding("state", WARNING, f"{text}, or chown it")
        return
    space = os.statvfs(folder)
    free = space.f_bavail * space.f_frsize
    if free < TOO_LITTLE or (space.f_files and not space.f_favail):
        text = (
            f"{folder} has {free // 1024**2} MiB and {space.f_favail} files left: make room, or nothing can be issued"
        )
        yield Finding("state", PROBLEM, text)
    elif free < ENOUGH:
        yield Finding("state", WARNING, f"{folder} has {free // 1024**2} MiB left: make room before it is full")
    elif not problems:
        yield Finding("state", OK, f"{folder} belongs to user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}")


def _permissions(folder: Path, found: os.stat_result) -> Iterator[Finding]:
    us = os.geteuid()
    if found.st_uid not in (0, us):
        text = f"{folder} belongs to user {found.st_uid}, and we are {us}"
        yield Finding("state", PROBLEM, f"{text}: chown it, or run byfahrer and doctor as its owner")
    if found.st_mode & 0o022:
        yield Finding(
            "state", PROBLEM, f"{folder} can be written by others: chmod 700 it, once you know that nobody did"
        )
    with suppress(OSError):
        for file in sorted(folder.iterdir())[:MOST_FILES]:
            mode = file.lstat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                text = f"{file} has mode {stat.S_IMODE(mode):04o}, so others may know or have changed it: expected 0600"
                yield Finding("state", PROBLEM, text)


async def run(engine: Engine, chosen: settings.Authority, own_id: str, user: str) -> tuple[Mount | None, list[Finding]]:
    """The folder with the authority's socket as sidecars get it, and whether that works."""
    folder = chosen.run_dir
    try:
        mount = await rundir.shared(engine, folder, own_id)
    except rundir.NotSharedError as error:
        return None, [Finding("authority", PROBLEM, f"sidecars sign their certificates themselves: {error}")]
    findings = [*_entered(folder, user), *served(folder / SOCKET)]
    return mount, findings


def _entered(folder: Path, user: str) -> Iterator[Finding]:
    """Whether sidecars, who run as `user`, get into the folder."""
    try:
        found = folder.stat()
    except OSError:
        return  # whoever serves there makes it
    numbers = re.fullmatch(r"(\d+)(?::(\d+))?", user)
    uid, gid = (int(numbers[1]), int(numbers[2] or 0)) if numbers else (-1, -1)
    bit = 0o100 if uid == found.st_uid else 0o010 if gid == found.st_gid else 0o001
    if uid != 0 and not found.st_mode & bit:
        text = f"{folder} has mode {stat.S_IMODE(found.st_mode):04o}, so that sidecars, user {user}, do not get in"
        yield Finding("authority", PROBLEM, f"{text}: chmod 755 it")


def served(path: Path) -> Iterator[Finding]:
    """Whether somebody serves the authority's socket, and who."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            text = (
                f"nobody serves {path}: does byfahrer run, with this --run-dir? Sidecars keep what they have meanwhile"
            )
            yield Finding("authority", WARNING, text)
        except PermissionError:
            yield Finding("authority", OK, f"{path} is there; who may not open it cannot tell more")
        except OSError as error:
            yield Finding("authority", PROBLEM, f"{path} does not answer: {error.strerror or error}")
        else:
            yield Finding("authority", OK, f"{path} is served by {_peer(probe)}")


def _peer(connected: socket.socket) -> str:
    pid, uid, _ = struct.unpack(
        "3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    name = ""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip() if pid else ""
    # From another pid namespace there is no number for it.
    return f"process {pid} ({one_line(name, 40) or 'unknown'}) of user {uid}" if pid else f"a process of user {uid}"


async def lasting(engine: Engine, chosen: settings.Authority, own_id: str) -> list[Finding]:
    """In a container: whether our folders outlive it."""
    if not own_id:
        return []
    findings = []
    for folder, volume, lost in (
        (chosen.state_dir, "byfahrer", "the authority's root is lost"),
        (chosen.run_dir, "byfahrer-run", "every sidecar is replaced"),
    ):
        try:
            kept = await rundir.lasts(engine, folder, own_id)
        except EngineError as error:
            return [Finding("volumes", WARNING, f"cannot tell what is mounted here: {error}")]
        if kept:
            findings.append(Finding("volumes", OK, f"{folder} outlives this container"))
        else:
            text = f"{folder} ends with this container, and {lost}: give it a volume (-v {volume}:{folder})"
            findings.append(Finding("volumes", WARNING, text))
    return findings


def daemon(path: Path) -> list[Finding]:
    """Whether a daemon answers at its own socket, and what it says of itself and of its targets."""
    with closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(os.fspath(path))
        except PermissionError:
            text = f"{path} is not for user {os.geteuid()}: run doctor as whoever runs byfahrer"
            return [Finding("daemon", WARNING, text)]
        except OSError:
            text = f"no byfahrer answers at {path}: start byfahrer run, or say where with --state-dir or --admin-addr"
            return [Finding("daemon", WARNING, text)]
    told = get(path, "/status")
    if not isinstance(told, dict) or not isinstance(told.get("targets"), list):
        return [
            Finding("daemon", PROBLEM, f"whoever answers at {path} does not say what a byfahrer would: see its log")
        ]
    findings = [finding for each in told["targets"] if isinstance(each, dict) for finding in _reported(each)]
    if told.get("ready") is not True:
        return [Finding("daemon", PROBLEM, f"byfahrer runs and is not ready: {told.get('fault')}"), *findings]
    text = f"byfahrer {told.get('version')} runs, and looked at everything at {told.get('last_resync')}"
    return [Finding("daemon", OK, text), *findings]


def _reported(target: dict[str, Any]) -> Iterator[Finding]:
    """What the sidecar of a target says of itself; what the daemon says of a target is told with that."""
    name = one_line(str(target.get("name")), 100)
    report = target.get("report")
    if not isinstance(report, dict):
        return
    bypass, certificate = report.get("bypass"), report.get("certificate")
    fault = str(report.get("fault") or "it starts") if report.get("ready") is False else ""
    if fault:
        yield Finding("daemon", WARNING, f"the sidecar of '{name}' is not ready: {fault}")
    # One that is strict has said it.
    if isinstance(bypass, list) and bypass and str(bypass[0]) not in fault:
        text = f"'{name}' also listens on {', '.join(map(str, bypass))}: whoever reaches that goes round TLS"
        yield Finding("daemon", WARNING, f"{text}; have it listen on 127.0.0.1")
    if isinstance(certificate, dict) and certificate.get("failing"):
        yield Finding("daemon", WARNING, f"the certificate of '{name}' is not renewed: {certificate['failing']}")
