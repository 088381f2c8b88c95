#!/usr/bin/env bash
# Builds the images named (all, if none is), each only if what it is made of has changed or the engine has lost it.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

tools/engine.sh
tools/base-image.sh

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' sidecar/src/sslterm/__init__.py)

# One hash over the Dockerfile, all that it copies from here, the version and the base image.
inputs_of() {
  local dockerfile=images/$1/Dockerfile
  {
    say "$version"
    docker image inspect --format '{{.Id}}' debian:trixie-slim
    # Word splitting is meant: these are the source paths of COPY lines, which hold no spaces.
    # shellcheck disable=SC2046
    find "$dockerfile" $(sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' "$dockerfile") -type f ! -path '*/__pycache__/*' -print0 |
      LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum | cut -d' ' -f1
}

field_of() { docker image inspect --format "$2" "$1" 2>/dev/null || true; }

[[ $# -gt 0 ]] || set -- sslterm byfahrer httpcheck
for image in "$@"; do
  inputs=$(inputs_of "$image")
  [[ $(field_of "$image" '{{index .Config.Labels "build-inputs"}}') != "$inputs" ]] || continue
  old=$(field_of "$image" '{{.Id}}')
  step "building image $image" docker build --tag "$image" --label "build-inputs=$inputs" \
    --build-arg "VERSION=$version" --file "images/$image/Dockerfile" . ||
    fail "image $image cannot be built from images/$image/Dockerfile: see above"
  # What the name meant before, unless a container still uses it, and build stages older than this one, which is the cache.
  [[ -z $old ]] || docker image rm "$old" >/dev/null 2>&1 || true
  docker image ls --quiet --filter dangling=true --filter "label=build-stage=$image" | tail -n +2 |
    xargs -r docker image rm >/dev/null 2>&1 || true
done
