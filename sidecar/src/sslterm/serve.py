"""
From flags and environment to a running sidecar, and its exit code.

Everything that can be wrong with the configuration becomes one line on stderr and exit code 2; 0 is "stopped when
asked", 1 all else.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from sslterm.certs.maker import Maker
from sslterm.settings import SettingError, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


def main(flags: Mapping[str, str]) -> int:
    """Serve as `flags` (by setting name) and the environment say, until told to stop; the exit code."""
    try:
        settings = Settings.resolve(flags, os.environ)
    except SettingError as error:
        sys.stderr.write(f"sslterm: {' '.join(str(error).split())}\n")
        return 2
    # The child that makes a certificate needs about 0.1 s, and so do the imports below: they run side by side.
    with Maker.ahead(wanted=not (settings.cert or settings.cert_dir or settings.acme)) as maker:
        from sslterm import sidecar
        from sslterm.log import Log

        log = Log(settings.log_level, settings.log_format)
        try:
            return sidecar.run(settings, maker, log.report)
        except Exception as error:  # noqa: BLE001 - the outermost frame: whatever it is, it ends here, and is told
            log.report_crash(error)
            return 1
        finally:
            log.close()
