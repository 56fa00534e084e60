#!/usr/bin/env bash
# Installs moto's server for the tests, AWS Secrets Manager and STS among it, from PyPI into folder $1/moto.
#
# usage: tests/testbed/moto.sh FOLDER        (called by install.sh)
#
# Needs python3; pip and its venv module, or nothing: where venv is missing, pip installs into a folder.
# Cost: about 10 s the first time, 0.1 s again. 180 MB.
set -euo pipefail
wanted=(moto==5.2.5 boto3==1.44.5 flask==3.1.3 flask-cors==6.0.5 werkzeug==3.1.9)
to=$1/moto

[ "$(cat "$to/.version" 2>/dev/null)" != "${wanted[*]}" ] || exit 0
printf 'testbed: an AWS of our own: PyPI %s\n' "${wanted[0]}"
work=$(mktemp -d "$1/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Into a folder rather than a venv: it can be moved, and needs no python3-venv.
if ! python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore \
    --target "$work/moto" "${wanted[@]}" >"$work/log" 2>&1; then
    tail -n 5 "$work/log" >&2
    printf 'testbed: !!! NO AWS: %s could not be installed\n' "${wanted[0]}"
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
printf '%s\n' "${wanted[*]}" >"$work/moto/.version"
chmod -R go+rX "$work/moto"
rm -rf "$to"
mv -T "$work/moto" "$to"
