"""
The command line brought to one spelling, before anything heavy is imported.

The 2017 program read its flags with Go's `flag` package, which takes one dash or two: `-backend-addr x`, `-cert=x`.
Those command lines are still written down in compose files, so they mean the same here. What this module does not
recognise it leaves alone: complaining about it is the command line's business (`cli.py`).
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from sslterm.settings import specs

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAMS: Final = frozenset({"gosslterm", "sslterm"})
_OTHERS: Final = {"help": "--help", "h": "--help", "version": "--version", "v": "--version"}
_FLAG = re.compile(r"--?([a-z][a-z-]*)(?:=(.*))?", re.DOTALL)


def canonical(argv: Sequence[str]) -> list[str]:
    """
    `argv` with every known flag as `--name=value`, whichever way it was written.

    A program name in first place is dropped: the 2017 image had its program as CMD, and people pass it on.
    """
    rest = list(argv)
    if rest and posixpath.basename(rest[0]) in _PROGRAMS:
        del rest[0]
    names = {spec.name: spec.name for spec in specs()} | {spec.short: spec.name for spec in specs() if spec.short}
    found: list[str] = []
    while rest:
        word = rest.pop(0)
        flag = _FLAG.fullmatch(word)
        if flag is None:
            found.append(word)
        elif flag[1] in _OTHERS and flag[2] is None:
            found.append(_OTHERS[flag[1]])
        elif flag[1] not in names or (flag[2] is None and not rest):
            found.append(word)
        else:
            found.append(f"--{names[flag[1]]}={rest.pop(0) if flag[2] is None else flag[2]}")
    return found


def as_flags(argv: Sequence[str]) -> dict[str, str] | None:
    """Canonical arguments as settings by name; None where there is anything else among them."""
    flags: dict[str, str] = {}
    for word in argv:
        name, equals, value = word.removeprefix("--").partition("=")
        if not (word.startswith("--") and equals):
            return None
        flags[name] = value
    known = {spec.name for spec in specs()}
    return flags if flags.keys() <= known else None
