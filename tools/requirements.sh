#!/usr/bin/env bash
# Writes requirements.txt anew: what both distributions and the group `dev` need, newest versions, pinned by hash.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

tools/venv.sh
[[ -x .cache/uv/bin/uv ]] || {
  step "making .cache/uv" .venv/bin/python -m venv .cache/uv
  step "installing uv" .cache/uv/bin/python -m pip install uv==0.13.9
}
compile() {
  .cache/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-package sslterm --no-emit-package byfahrer --group pyproject.toml:dev \
    sidecar/pyproject.toml injector/pyproject.toml --output-file .cache/requirements.txt
}
step "resolving" compile
{
  say "# Everything that development and tests need, pinned by hash. Written by 'make requirements': do not edit."
  sed '/^$/,$d' .cache/requirements.txt
} >requirements.txt
say "requirements.txt is written; review the difference and run make test"
