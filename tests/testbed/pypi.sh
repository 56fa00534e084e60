#!/usr/bin/env bash
# Installs pinned packages from PyPI into a folder of the test bed.
#
# usage: tests/testbed/pypi.sh FOLDER NAME WHAT PACKAGE==VERSION...
#
# Out:   FOLDER/NAME, for PYTHONPATH; left alone if these very packages are there (0.1 s).
# Needs: python3; pip is installed by apt where root runs this. In CI what cannot be installed is a failure, elsewhere it is said.
set -euo pipefail
bed=$1 to=$1/$2 what=$3
shift 3

[ "$(cat "$to/.version" 2>/dev/null)" != "$*" ] || exit 0
printf 'testbed: %s: PyPI %s\n' "$what" "$1"
if ! python3 -m pip --version >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get -qq update >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3-pip >/dev/null
fi
work=$(mktemp -d "$bed/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Into a folder rather than a virtual environment: it can be moved, and needs no python3-venv.
if ! python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
    --no-warn-script-location --target "$work/packages" "$@" >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    printf 'testbed: !!! NOT THERE: %s: %s could not be installed\n' "$what" "$1"
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
printf '%s\n' "$*" >"$work/packages/.version"
chmod -R go+rX "$work/packages"
rm -rf "$to"
mv -T "$work/packages" "$to"
