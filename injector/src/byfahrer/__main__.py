"""
Where the process starts.

A container's first process ignores every signal that it has no handler for: without one, a `docker stop` that comes
during the imports would wait out its ten seconds.
"""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that `sys.argv` asks for, and exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from byfahrer import cli

    cli.main()


if __name__ == "__main__":
    main()
