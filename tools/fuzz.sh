#!/usr/bin/env bash
# Looks for bytes that break a promise of the reader of HTTP, for as many seconds as the argument says. Begins with the
# corpus of the tests and with what earlier runs found worth keeping; an input that breaks something is left in .cache/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

limit=${1:?how many seconds}
home=.cache/fuzz
state=$(cat tests/fuzz/requirements.txt .venv/.state | sha256sum)
if [[ $(cat "$home/.state" 2>/dev/null) != "$state" ]]; then
  rm -rf "$home/packages"
  step "installing tests/fuzz/requirements.txt" .venv/bin/python -m pip install --disable-pip-version-check \
    --require-hashes --only-binary :all: --target "$home/packages" -r tests/fuzz/requirements.txt
  printf '%s\n' "$state" >"$home/.state"
fi
mkdir -p "$home/kept"
.venv/bin/python tests/fuzz/fuzz_http.py --seeds "$home/seeds"
say "fuzzing the reader of HTTP for $limit s"
PYTHONPATH=$home/packages .venv/bin/python tests/fuzz/fuzz_http.py --guided "$home/kept" "$home/seeds" \
  -max_total_time="$limit" -max_len=4096 -timeout=10 -artifact_prefix="$home/" -print_final_stats=1 -verbosity=0
