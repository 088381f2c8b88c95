#!/usr/bin/env bash
# Makes .venv: both distributions, editable, and the pinned tools of requirements.txt. Does nothing when all is as it was.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

python=${PYTHON:-python3}
inputs=(requirements.txt sidecar/pyproject.toml injector/pyproject.toml tools/venv.sh)
state=$(cat "${inputs[@]}" | sha256sum)

if [[ -x .venv/bin/python && $(cat .venv/.state 2>/dev/null) == "$state" ]]; then
  exit 0
fi

command -v "$python" >/dev/null || fail "$python is not there: install Python 3.11 or newer, or name it with PYTHON=…"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$("$python" -V) is too old: Python 3.11 or newer is needed, name one with PYTHON=…"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  on_debian_as_root || fail "$python has no ensurepip: install the package python3-venv"
  apt_install python3-venv
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  rm -rf .venv
  step "making .venv with $("$python" -V)" "$python" -m venv .venv
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
step "installing requirements.txt" .venv/bin/python -m pip install --require-hashes -r requirements.txt
step "installing sslterm and byfahrer, editable" \
  .venv/bin/python -m pip install --no-deps --no-build-isolation -e sidecar -e injector
printf '%s\n' "$state" >.venv/.state
