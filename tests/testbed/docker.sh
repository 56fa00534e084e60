#!/usr/bin/env bash
# A Docker engine for the tests: Debian's docker.io, started by hand, its data and socket in the bed.
#
# usage: tests/testbed/docker.sh start    prints DOCKER_HOST's value; again: 0.1 s
#        tests/testbed/docker.sh stop     ends the engine that `start` started, and its containers
#        tests/testbed/docker.sh base     start, and the base image debian:bookworm-slim: pulled, or made
#
# Needs: root (an engine does). Containers use the host's network (`--network host`) or none: no
#        bridge and no firewall rule is made on this machine. Loud where it cannot; in CI it fails.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
bed=$(readlink -f "${SANKOFA_DOCKER_BED:-${SANKOFA_TESTBED:-$checkout/.testbed}}" || true)
home=$bed/docker
# A socket's path has at most 108 bytes.
socket=/tmp/sankofa-docker-$(printf %s "$home" | cksum | cut -d' ' -f1).sock
export DOCKER_HOST=unix://$socket

say() { printf 'testbed: %s\n' "$*" >&2; }
die() { printf 'testbed: cannot %s\n' "$*" >&2; exit 1; }

install_engine() {
    command -v dockerd >/dev/null && command -v docker >/dev/null && return
    say "installing docker.io by apt"
    apt-get -qq update >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends docker.io >/dev/null
}

start() {
    [ "$(id -u)" = 0 ] || die "start a Docker engine: it needs root"
    docker info >/dev/null 2>&1 && return
    install_engine
    mkdir -p "$home"
    rm -f "$home/pid"
    # Nothing of this shell's descriptors: a caller that reads our output must see its end.
    setsid dockerd --host "$DOCKER_HOST" --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/pid" \
        --bridge=none --iptables=false --ip6tables=false >"$home/dockerd.log" 2>&1 </dev/null 9>&- &
    local tries
    for tries in $(seq 150); do
        docker info >/dev/null 2>&1 && return
        sleep 0.2
    done
    tail -n 20 "$home/dockerd.log" >&2
    die "start dockerd (after $tries tries): see $home/dockerd.log"
}

base() {
    docker image inspect debian:bookworm-slim >/dev/null 2>&1 && return
    # A registry, where one can be reached; else the same thing out of Debian's archive.
    timeout 60 docker pull -q debian:bookworm-slim >/dev/null 2>&1 && return
    command -v debootstrap >/dev/null || {
        say "installing debootstrap by apt"
        apt-get -qq update >/dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends debootstrap >/dev/null
    }
    say "no registry: making debian:bookworm-slim by debootstrap (80 s, once)"
    SANKOFA_BASE_CACHE=$home "$checkout/docker/build-base.sh" >&2
}

stop() {
    [ -s "$home/pid" ] || return 0
    docker ps -aq 2>/dev/null | xargs -r docker rm -fv >/dev/null 2>&1 || true
    local pid tries
    pid=$(cat "$home/pid")
    kill "$pid" 2>/dev/null || true
    for tries in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    rm -f "$home/pid" "$socket"
}

case ${1:-} in
    start) start; echo "$DOCKER_HOST" ;;
    base) start; base; echo "$DOCKER_HOST" ;;
    stop) stop ;;
    *) sed -n '2,11p' "$0"; exit 2 ;;
esac
