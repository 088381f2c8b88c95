#!/usr/bin/env bash
# A Docker Engine that answers: the one that is there, else Debian's own, installed and started. Never stops or removes one.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh
PATH=$PATH:/usr/sbin:/sbin

socket=/var/run/docker.sock
log=/var/log/dockerd.log
daemon=

answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

answers && exit 0

# An engine elsewhere is not ours to start.
endpoint=${DOCKER_HOST:-}
if [[ -z $endpoint ]] && command -v docker >/dev/null; then
  endpoint=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)
fi
if [[ $endpoint && ${endpoint#unix://} != "$socket" && ${endpoint#unix://} != /run/docker.sock ]]; then
  fail "no Docker Engine answers at $endpoint: start it, or unset DOCKER_HOST (and: docker context use default)"
fi
if [[ -S $socket && ! -w $socket ]]; then
  fail "no permission on $socket: be root, or join its group (sudo usermod -aG docker $(id -un)) and log in again"
fi
on_debian_as_root ||
  fail "no Docker Engine answers: install one and start it (Debian, Ubuntu: sudo apt-get install docker.io)"

# The engine, and the client, which newer releases of Debian have in a package of its own.
packages=()
command -v dockerd >/dev/null || packages=(docker.io iptables)
if ! command -v docker >/dev/null; then
  packages+=(docker.io)
  ! apt-cache show docker-cli >/dev/null 2>&1 || packages+=(docker-cli)
fi
[[ ${#packages[@]} == 0 ]] || apt_install "${packages[@]}"

# forget FILE NAME: removes a pid file whose process is gone (or dead and not yet reaped) or is another program by now.
forget() {
  local status
  status=$(cat "/proc/$(cat "$1" 2>/dev/null)/status" 2>/dev/null || true)
  [[ $status == Name:*"$2"$'\n'* && $status != *$'\n'State:*Z\ \(zombie* ]] || rm -f "$1"
}

start() {
  if [[ -d /run/systemd/system ]]; then
    systemctl start docker
    return
  fi
  # A daemon that was killed leaves these behind, and the next one believes them.
  forget /run/docker.pid dockerd
  forget /run/docker/containerd/containerd.pid containerd
  grep -q ' /run/containerd/containerd.sock$' /proc/net/unix || rm -f /run/containerd/containerd.sock
  if [[ ! -e /run/docker.pid ]]; then
    setsid dockerd >>"$log" 2>&1 </dev/null &
    daemon=$!
  fi
}

wait_for_it() {
  for _ in {1..60}; do
    if answers; then return; fi
    [[ -z $daemon ]] || kill -0 "$daemon" 2>/dev/null || return 1 # it gave up
    sleep 1
  done
  return 1
}

start
step "starting the Docker Engine" wait_for_it || {
  if [[ -d /run/systemd/system ]]; then journalctl -u docker -n 20 --no-pager -o cat; else tail -n 20 "$log"; fi >&2 || true
  fail "the Docker Engine does not answer at unix://$socket: the end of its log is above"
}
