#!/usr/bin/env bash
# Builds the real image from the real Dockerfile on the test bed's engine, with the debug binary in it.
#
# usage: tests/testbed/image.sh [FILE]     prints DOCKER_HOST's value; FILE: the image is saved there, too
#
# Image:  sankofa:test; MAJORS (default 15) its client programs, SANKOFA_BINARY its binary.
# Needs:  root, target/debug/sankofa. Cost: 10 s with the base and the client programs in the engine's cache, 3 min without.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=${SANKOFA_BINARY:-$checkout/target/debug/sankofa}

[ -x "$binary" ] || { echo "testbed: cannot find $binary: run \`make build\`" >&2; exit 1; }
DOCKER_HOST=$("$checkout/tests/testbed/docker.sh" base)
export DOCKER_HOST
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
strip -o "$work/sankofa" "$binary"
told=$("$checkout/docker/context.sh" "$work/sankofa" "$work/context")
docker build -q --network host -f "$checkout/docker/Dockerfile" --build-arg MAJORS="${MAJORS:-15}" \
    --build-arg VERSION="$(sed -n 1p <<<"$told")" --build-arg REVISION="$(sed -n 2p <<<"$told")" \
    -t sankofa:test "$work/context" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
[ $# = 0 ] || docker save -o "$1" sankofa:test
echo "$DOCKER_HOST"
