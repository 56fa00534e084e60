#!/usr/bin/env bash
# Makes the base image of docker/Dockerfile from Debian's own archive, where no image registry can be
# reached: debootstrap --variant=minbase, without what an image needs not, imported by docker.
#
# usage: docker/build-base.sh [TAG]          (default: debian:bookworm-slim; root, Debian or Ubuntu)
#
# Needs: debootstrap and a running docker (DOCKER_HOST is respected). 80 s once; the unpacked tree is
#        kept as $SANKOFA_BASE_CACHE/base.tar (default: .testbed/docker), 2 s from there.
set -euo pipefail
tag=${1:-debian:bookworm-slim}
suite=bookworm
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${SANKOFA_BASE_CACHE:-$here/../.testbed/docker}

die() { printf 'build-base: cannot %s\n' "$*" >&2; exit 1; }

# The mirror that this machine itself uses, so that one behind a proxy or a mirror works too.
mirror() {
    local found
    found=$(grep -hv '^ *#' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE 'https?://[^ ]*/debian/?( |$)' | sed -n '1s/ *$//p') || true
    echo "$found" # empty: debootstrap's own default
}

make_tree() {
    local work=$1
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$work/root" $(mirror) >"$work/log" 2>&1 ||
        { tail -n 5 "$work/log" >&2; die "unpack Debian $suite by debootstrap"; }
    # What debian:bookworm-slim leaves out too.
    rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/var/log/*
    find "$work/root/usr/share/doc" -mindepth 1 -not -name copyright -not -type d -delete
    rm -rf "$work"/root/usr/share/{man,info,locale,groff,lintian,linda}/*
    printf 'path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n' \
        >"$work/root/etc/dpkg/dpkg.cfg.d/docker"
    tar -C "$work/root" --numeric-owner -cf "$work/base.tar" .
}

[ "$(id -u)" = 0 ] || die "run debootstrap: it needs root"
command -v debootstrap >/dev/null || die "find debootstrap: apt-get install debootstrap"
mkdir -p "$cache"
if [ ! -s "$cache/base.tar" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    make_tree "$work"
    mv "$work/base.tar" "$cache/base.tar.new" && mv "$cache/base.tar.new" "$cache/base.tar"
fi
docker import --change 'CMD ["bash"]' --message "debootstrap $suite" "$cache/base.tar" "$tag"
