# Sourced by the scripts beside it: how they talk.
# shellcheck shell=bash

say() { printf '%s\n' "$*"; }

# One line that names the thing and says what would be right; then the script ends.
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# step TEXT COMMAND…: runs COMMAND with a dot every two seconds; its output goes to .cache/log/ and is shown if it fails.
step() {
  local text=$1 log began=$SECONDS status=0 ticker
  shift
  mkdir -p .cache/log
  log=".cache/log/$(tr -cs '[:alnum:]' - <<<"$text" | sed 's/^-*//; s/-*$//').log"
  printf '%s ' "$text"
  (while sleep 2; do printf .; done) &
  ticker=$!
  "$@" >"$log" 2>&1 </dev/null || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if ((status)); then
    printf ' failed after %s s, the end of %s:\n' "$((SECONDS - began))" "$log"
    tail -n 20 "$log" | sed 's/^/  | /'
    return "$status"
  fi
  printf ' %s s\n' "$((SECONDS - began))"
}

on_debian_as_root() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# apt_install PACKAGE…: from the machine's own sources, nothing asked, nothing recommended.
apt_install() {
  step "reading package lists" apt-get update -q
  step "installing $*" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}
