#!/usr/bin/env bash
# What judges of TLS from outside say of a sidecar: sslyze and testssl.sh, installed where missing, and the full outputs in
# .cache/audit. With the argument `sslyze` only installs that, for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

home=.cache/audit
python=$home/venv/bin/python

tools/venv.sh
state=$({ cat tools/audit-requirements.txt; .venv/bin/python -VV; } | sha256sum)
if [[ $(cat "$home/.state" 2>/dev/null) != "$state" ]]; then
  rm -rf "$home/venv"
  step "making $home/venv" .venv/bin/python -m venv "$home/venv"
  step "installing tools/audit-requirements.txt" "$python" -m pip install --disable-pip-version-check \
    --require-hashes -r tools/audit-requirements.txt
  printf '%s\n' "$state" >"$home/.state"
fi
[[ ${1-} != sslyze ]] || exit 0

packages=()
command -v testssl >/dev/null || packages+=(testssl.sh)
command -v dig >/dev/null || packages+=(dnsutils) # without it testssl.sh stops
if [[ ${#packages[@]} != 0 ]]; then
  on_debian_as_root || fail "the audit needs ${packages[*]}: install what is missing (Debian, Ubuntu: sudo apt-get install ${packages[*]})"
  apt_install "${packages[@]}"
fi
tools/images.sh sslterm httpcheck
PYTHONPATH=tests .venv/bin/python tools/audit.py
