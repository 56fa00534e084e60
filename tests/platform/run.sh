#!/usr/bin/env bash
# The whole platform, day by day, with faults: a real Airflow (scheduler, LocalExecutor; Celery with a
# real Redis), its database, the real image on a real engine, Vault, S3, the three real databases.
#
# usage: tests/platform/run.sh [3|2] [PYTEST ARGUMENTS]        (default: 3)
#
# Needs: target/debug/sankofa built (or SANKOFA_BINARY), the test bed (`make testbed`), the folder
#        `shared`; root, for a Docker engine and a disk to fill. In CI a missing part is a failure.
# Where: everything in one new folder under /tmp, removed at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
bed=$(readlink -f "${SANKOFA_TESTBED:-$checkout/.testbed}")
version=3
case ${1:-} in 2 | 3) version=$1; shift ;; esac

export SANKOFA_BINARY=${SANKOFA_BINARY:-$checkout/target/debug/sankofa}
[ -x "$SANKOFA_BINARY" ] || { echo "platform: cannot find $SANKOFA_BINARY: run \`make build\`" >&2; exit 1; }
"$checkout/tests/testbed/airflow.sh" "$version" "platform-$version"
work=$(mktemp -d /tmp/sankofa-platform.XXXXXX)
chmod 755 "$work"
trap 'umount -l "$work/stage" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The package as an operator installs it: built, with its entry points; not the folder itself.
cp -r "$checkout/airflow_dags" "$work/source"
python=$(readlink -f "$bed/airflow-$version")/bin/python
"$bed/bin/uv" pip install --quiet --offline --python "$python" --no-deps --no-build-isolation --target "$work/site" "$work/source"

export SANKOFA_WORK=$work SANKOFA_TESTBED=$bed SANKOFA_CHECKOUT=$checkout SANKOFA_AIRFLOW=$version
export PYTHONPATH=$work/site:$bed/airflow-platform-$version PYTHONDONTWRITEBYTECODE=1
export PATH=$(dirname "$python"):$PATH
"$python" -m pytest "$here" -p no:cacheprovider -q -x -ra --durations=12 "$@"
