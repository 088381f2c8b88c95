#!/usr/bin/env bash
# What bench/ measures sslterm beside, and with: other proxies, wrk and Go. Installed where missing.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

packages=()
while read -r program package; do
  [[ -x $program ]] || packages+=("$package")
done <<'PEERS'
/usr/sbin/nginx nginx-light
/usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream
/usr/sbin/haproxy haproxy
/usr/sbin/hitch hitch
/usr/bin/stunnel stunnel4
/usr/bin/caddy caddy
/usr/bin/wrk wrk
/usr/bin/go golang-go
/usr/bin/openssl openssl
PEERS
[[ ${#packages[@]} == 0 ]] && exit 0
on_debian_as_root || fail "the benchmark needs ${packages[*]}: install what is missing (Debian, Ubuntu: sudo apt-get install ${packages[*]})"
apt_install "${packages[@]}"

# Here they are programs, not services: what an installation started under systemd is stopped again.
if [[ -d /run/systemd/system ]]; then
  for package in "${packages[@]}"; do
    case $package in nginx-light) package=nginx ;; esac
    systemctl disable --now "$package" >/dev/null 2>&1 || true
  done
fi
