#!/usr/bin/env bash
# debian:trixie-slim: kept if it is there, pulled where there is a registry, else made by debootstrap from this
# machine's own package source (or from DEBIAN_MIRROR), which the image then uses too.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/step.sh

image=debian:trixie-slim
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
docker image inspect "$image" >/dev/null 2>&1 && exit 0

# No step(): where there is no registry this fails at once, and that is no error yet.
printf 'pulling %s … ' "$image"
if refusal=$(timeout 300 docker pull --quiet "$image" 2>&1 </dev/null); then
  say "done"
  exit 0
fi
say "not to be had (${refusal##*: })"

on_debian_as_root ||
  fail "$image cannot be pulled: give the engine a registry or a mirror of one, or be root on Debian so that debootstrap can make it"

# sources SUITE: addresses of this machine's package sources for that suite's component main.
sources() {
  # shellcheck disable=SC2016  # apt's own placeholders
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$1" '$2 == suite && $3 == "main" { print $1; exit }'
}
# shellcheck source=/dev/null
codename=$(. /etc/os-release && [[ $ID == debian ]] && printf %s "$VERSION_CODENAME") || codename=''
mirror=${DEBIAN_MIRROR:-${codename:+$(sources "$codename")}}
security=${codename:+$(sources "$codename-security")}
[[ $mirror ]] || fail "no Debian package source is known on this machine: name one with DEBIAN_MIRROR=URL"

{ command -v debootstrap && [[ -e $keyring ]]; } >/dev/null || apt_install debootstrap debian-archive-keyring

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# By default it goes on without signatures where it finds no keys.
step "making $image with debootstrap" \
  debootstrap --force-check-gpg --keyring="$keyring" --variant=minbase trixie "$root" "$mirror"

# As slim as the published image: what no container reads is not kept, nor installed later.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
cat >"$root/etc/apt/apt.conf.d/slim" <<'END'
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin"; };
Acquire::Languages "none";
END
rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*
find "$root/usr/share/doc" -mindepth 1 ! -type d ! -name copyright -delete
printf 'deb %s trixie main\n' "$mirror" >"$root/etc/apt/sources.list"
[[ -z $security ]] || printf 'deb %s trixie-security main\n' "$security" >>"$root/etc/apt/sources.list"
: >"$root/etc/hostname"
: >"$root/etc/resolv.conf"

import() { tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$image"; }
step "importing $image" import
