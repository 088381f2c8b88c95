#!/usr/bin/env bash
# Writes requirements.txt anew: what both distributions and the group `dev` need, newest versions, pinned by hash; and
# tools/audit-requirements.txt, which is of an environment of its own.
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
compile_audit() {
  .cache/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate - --output-file .cache/audit-requirements.txt <<<sslyze
}
step "resolving" compile
step "resolving for the audit" compile_audit
{
  say "# Everything that development and tests need, pinned by hash. Written by 'make requirements': do not edit."
  sed '/^$/,$d' .cache/requirements.txt
} >requirements.txt
{
  say "# What 'make audit' needs, pinned by hash. Written by 'make requirements': do not edit."
  sed '/^$/,$d' .cache/audit-requirements.txt
} >tools/audit-requirements.txt
say "requirements.txt and tools/audit-requirements.txt are written; review the difference and run make test and make audit"
