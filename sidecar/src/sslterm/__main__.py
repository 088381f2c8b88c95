"""
Where the process starts: what has to happen before anything heavy is imported.

Three things cannot wait. OpenSSL reads its configuration when `ssl` is first imported, and never again. A container's
first process ignores every signal that it has no handler for, so without one an early `docker stop` would wait out its
ten seconds. And neither the health probe, which runs every few seconds in the target's memory, nor a sidecar that is
configured by known flags and variables alone, as injected ones are, should pay for the command line.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> int:
    """Run the command that `sys.argv` asks for; the process's exit code."""
    # Without pathlib, which nothing else needs this early.
    os.environ.setdefault("OPENSSL_CONF", os.path.join(os.path.dirname(__file__), "openssl.cnf"))  # noqa: PTH118, PTH120
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    from sslterm.arguments import as_flags, canonical

    argv = canonical(sys.argv[1:])
    if argv[:1] == ["check"] and (flags := as_flags(argv[1:])) is not None:
        from sslterm import check

        return check.main(flags)
    if (flags := as_flags(argv)) is not None:
        from sslterm import serve

        return serve.main(flags)
    from sslterm import cli

    return cli.main(argv)


def _leave(*_: object) -> NoReturn:
    """Stopped when asked, before there was anything to drain."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
