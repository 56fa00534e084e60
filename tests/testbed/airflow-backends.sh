#!/usr/bin/env bash
# Installs Airflow's own secrets backends, which read the same files and servers as we do, into $1/airflow-backends.
#
# usage: tests/testbed/airflow-backends.sh FOLDER        (called by install.sh)
#
# Needs Python 3.11 or 3.12 with pip. Every package is pinned in airflow/backends.txt; uv fetches them.
# Cost: about 20 s and 270 MB the first time, 0.1 s again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pins=$here/airflow/backends.txt
to=$1/airflow-backends
mark=$(cksum <"$pins")

[ "$(cat "$to/.version" 2>/dev/null)" != "$mark" ] || exit 0
fail() {
    printf 'testbed: !!! NO BACKENDS OF AIRFLOW: %s\n' "$*"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}
for python in python3.11 python3.12 python3 ''; do
    [ -n "$python" ] || fail "no Python 3.11 or 3.12"
    ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || break
done
printf "testbed: Airflow's own secrets backends: PyPI %s\n" "$(grep '^apache-airflow==' "$pins")"
work=$(mktemp -d "$1/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
    --no-warn-script-location --target "$work/uv" uv==0.13.8 || fail "no uv"
rm -rf "$to"
{
    "$work/uv/bin/uv" venv --quiet --python "$python" "$to"
    "$work/uv/bin/uv" pip install --quiet --no-deps --python "$to/bin/python" --requirement "$pins"
} || fail "see above"
printf '%s\n' "$mark" >"$to/.version"
