#!/usr/bin/env bash
# demo.sh up: a labelled container answers HTTPS through the sidecar that byfahrer gave it. demo.sh down: removes both.
# Ours are the containers and volumes with the label demo=byfahrer, and the sidecars of those; nothing else is ever touched.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

port=8081
root=.cache/demo/byfahrer.crt
mark=demo=byfahrer
url=https://127.0.0.1:$port/pi/100

# Ids of our containers, then of their sidecars.
ours() {
  local target
  docker ps --all --quiet --no-trunc --filter "label=$mark"
  for target in $(docker ps --all --quiet --no-trunc --filter "label=$mark"); do
    docker ps --all --quiet --no-trunc --filter "label=byfahrer.target=$target"
  done
}

# The injector goes first: it would give back the sidecars that are removed.
down() {
  local found
  found=$(docker ps --all --quiet --filter "label=$mark" --filter name='^/byfahrer$')
  # shellcheck disable=SC2086  # ids, one word each
  [[ -z $found ]] || docker rm --force $found >/dev/null
  found=$(ours)
  # shellcheck disable=SC2086
  [[ -z $found ]] || docker rm --force --volumes $found >/dev/null
  found=$(docker volume ls --quiet --filter "label=$mark")
  # shellcheck disable=SC2086
  [[ -z $found ]] || docker volume rm --force $found >/dev/null
  rm -f "$root"
}

# What could be in the way. A sidecar left over is not: the injector reaps or adopts it.
free() {
  local name owner
  for name in www www-proxy byfahrer; do
    owner=$(docker ps --all --filter "name=^/$name\$" --format '{{if not (.Label "byfahrer.target")}}{{.ID}}{{end}}')
    [[ -z $owner ]] || fail "the name $name is taken by container $owner, which is not the demo's: rename or remove it"
  done
  ! (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null ||
    fail "port $port is taken by another program (ss -ltnp 'sport = :$port' names it): stop it for the demo"
}

# The root of the demo's own authority, as any client gets it.
fetch_root() {
  mkdir -p "$(dirname "$root")"
  for _ in {1..20}; do
    if docker exec byfahrer byfahrer ca root >"$root" 2>/dev/null; then return; fi
    sleep 0.5
  done
  docker exec byfahrer byfahrer ca root >"$root"
}

fetch() {
  if command -v curl >/dev/null; then
    curl --silent --show-error --fail --cacert "$root" --max-time 5 "$url"
  else
    "${PYTHON:-python3}" -c '
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
print(urllib.request.urlopen(sys.argv[1], timeout=5, context=context).read().decode(), end="")' "$url" "$root"
  fi
}

# Until the answer is there, 30 s at most. curl's reason for the last failure is in the step's log.
wait_for_answer() {
  for _ in {1..60}; do
    if fetch; then return; fi
    sleep 0.5
  done
  return 1
}

# The access log is stdout, and written in batches.
access_line() {
  local line
  for _ in {1..20}; do
    line=$(docker logs --tail 1 www-proxy 2>/dev/null)
    [[ -z $line ]] || break
    sleep 0.1
  done
  say "$line"
}

show_logs() {
  local name
  for name in byfahrer www-proxy www; do
    printf -- '--- docker logs %s\n' "$name"
    docker logs --tail 30 "$name" 2>&1 || true
  done
}

run() {
  say "\$ docker run $*"
  docker run "$@" >/dev/null || fail "docker run failed: see the line above; make demo-down removes what was started"
}

up() {
  down
  free
  run --detach --name www --label "$mark" --label byfahrer.proxy-image=sslterm --publish "$port:$port" httpcheck
  docker volume create --label "$mark" byfahrer-demo >/dev/null
  docker volume create --label "$mark" byfahrer-demo-run >/dev/null
  run --detach --name byfahrer --label "$mark" --volume /var/run/docker.sock:/var/run/docker.sock \
    --volume byfahrer-demo:/var/lib/byfahrer --volume byfahrer-demo-run:/run/byfahrer byfahrer
  step "asking byfahrer for the root of its authority" fetch_root || {
    show_logs >&2
    fail "byfahrer has no root: the logs are above; make demo-down removes the demo"
  }
  step "waiting for HTTPS on port $port" wait_for_answer || {
    show_logs >&2
    fail "$url did not answer within 30 s: the logs are above; make demo-down removes the demo"
  }
  say $'\n'"\$ docker exec byfahrer byfahrer ca root >$root"
  say "\$ curl --cacert $root $url"
  fetch
  say $'\n'"\$ docker exec byfahrer byfahrer ps"
  docker exec byfahrer byfahrer ps
  say $'\n'"\$ docker logs --tail 1 www-proxy"
  access_line
  cat <<END

Look around:
  curl --cacert $root https://127.0.0.1:$port/headers
                                                     what the target receives
  docker exec byfahrer byfahrer ca ls                who has which certificate
  docker logs --follow www-proxy                     a line for each request
  docker stop www; sleep 2; docker ps                the sidecar goes with its target
  docker start www; sleep 2; docker ps               and comes back
  docker run -d --label $mark --label byfahrer.proxy-image=sslterm --label byfahrer.frontend=:8443 \\
      -p 8443:8443 httpcheck                         another one, on port 8443
Remove everything that the demo started:
  make demo-down
END
}

case ${1-} in
  up) up ;;
  down)
    tools/engine.sh
    down
    say "the demo's containers are removed; the images (docker images) and the engine stay"
    ;;
  *) fail "usage: tools/demo.sh up|down" ;;
esac
