#!/usr/bin/env bash
# .cache/compiled: the package sslterm with its data plane compiled, as it is in the image; on PYTHONPATH it comes before
# the source. Does nothing when all is as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

tools/venv.sh
compiled=.cache/compiled
state=$({ .venv/bin/python -VV; find sidecar/compile.py sidecar/src requirements.txt -type f ! -path '*/__pycache__/*' -print0 |
  LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum)
[[ $(cat "$compiled/.state" 2>/dev/null) != "$state" ]] || exit 0

header=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
packages=()
command -v gcc >/dev/null || packages+=(gcc libc6-dev)
[[ -e $header ]] || packages+=(libc6-dev python3-dev)
if [[ ${#packages[@]} != 0 ]]; then
  on_debian_as_root || fail "compiling needs ${packages[*]}: install what is missing (Debian, Ubuntu: sudo apt-get install ${packages[*]})"
  apt_install "${packages[@]}"
fi
step "compiling the data plane" .venv/bin/python sidecar/compile.py "$compiled"
printf '%s\n' "$state" >"$compiled/.state"
