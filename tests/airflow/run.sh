#!/usr/bin/env bash
# Tests the package of airflow_dags/ on a real Airflow, with real containers and PostgreSQL servers.
#
# usage: tests/airflow/run.sh [3|2] [cluster] [PYTEST ARGUMENTS]        (default: 3)
#        cluster: those that need a real Kubernetes and the real image, and only those (make test-kubernetes)
#
# Needs: target/debug/sankofa built (or SANKOFA_BINARY), the test bed (`make testbed`); root for a Docker engine. In CI a
#        missing part is a failure; elsewhere what it would have tested is named and left out.
# Where: everything in one new folder under /tmp, removed at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
bed=${SANKOFA_TESTBED:-$checkout/.testbed}
version=3
case ${1:-} in 2 | 3) version=$1; shift ;; esac
tests=("$here" --ignore "$here/cluster")
case ${1:-} in cluster) tests=("$here/cluster"); shift ;; esac

export SANKOFA_BINARY=${SANKOFA_BINARY:-$checkout/target/debug/sankofa}
[ -x "$SANKOFA_BINARY" ] || { echo "airflow: cannot find $SANKOFA_BINARY: run \`make build\`" >&2; exit 1; }
"$checkout/tests/testbed/airflow.sh" "$version"
work=$(mktemp -d /tmp/sankofa-airflow.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The package as an operator installs it: built, with its entry points; not the folder itself.
cp -r "$checkout/airflow_dags" "$work/source"
python=$(readlink -f "$bed/airflow-$version")/bin/python
"$bed/bin/uv" pip install --quiet --offline --python "$python" --no-deps --no-build-isolation --target "$work/site" "$work/source"

export SANKOFA_WORK=$work SANKOFA_TESTBED=$bed SANKOFA_CHECKOUT=$checkout
export AIRFLOW_HOME=$work/home PYTHONPATH=$work/site PYTHONDONTWRITEBYTECODE=1
export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__DAGS_FOLDER=$work/dags AIRFLOW__CORE__UNIT_TEST_MODE=False
export AIRFLOW__LOGGING__LOGGING_LEVEL=INFO AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True
export PATH=$(dirname "$python"):$PATH
mkdir -p "$work/dags"
"$python" -m pytest "${tests[@]}" -p no:cacheprovider -q --durations=8 "$@"
