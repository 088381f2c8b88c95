#!/usr/bin/env bash
# What the tests drive: curl, openssl, ip, haproxy, nginx and Pebble, and with the argument `compose` that and an image
# registry too. Installed where missing.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

packages=()
for client in curl openssl; do
  command -v "$client" >/dev/null || packages+=("$client")
done
command -v ip >/dev/null || [[ -x /usr/sbin/ip ]] || packages+=(iproute2)
for server in haproxy nginx pebble; do
  command -v "$server" >/dev/null || [[ -x /usr/sbin/$server ]] || packages+=("$server")
done
[[ ${1-} != compose ]] || docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || packages+=(docker-compose)
[[ ${1-} != compose ]] || command -v docker-registry >/dev/null || packages+=(docker-registry)
[[ ${#packages[@]} == 0 ]] && exit 0
on_debian_as_root || fail "the tests need ${packages[*]}: install what is missing (Debian, Ubuntu: sudo apt-get install ${packages[*]})"
apt_install "${packages[@]}"
