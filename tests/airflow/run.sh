#!/usr/bin/env bash
# Tests the package of airflow_dags/ on a real Airflow, with real containers and PostgreSQL servers.
#
# usage: tests/airflow/run.sh [3|2] [cluster|upgrade] [PYTEST ARGUMENTS]        (default: 3)
#        cluster: those that need a real Kubernetes and the real image, and only those (make test-kubernetes)
#        upgrade: those that take an Airflow from 2.11 to 3.3, and only those (make test-upgrade)
#
# Needs: target/debug/sankofa built (or SANKOFA_BINARY), the test bed (`make testbed`); root for a Docker engine. In CI a
#        missing part is a failure; elsewhere what it would have tested is named and left out.
# Where: everything in one new folder under /tmp, removed at the end.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=3
case ${1:-} in 2 | 3) version=$1; shift ;; esac
tests=("$here" --ignore "$here/cluster" --ignore "$here/upgrade") parts=("$version")
case ${1:-} in
    cluster) tests=("$here/cluster"); shift ;;
    upgrade) tests=("$here/upgrade") parts=(2 platform-2 3 platform-3); shift ;;
esac
. "$here/prepare.sh" airflow "$version" "${parts[@]}"

export AIRFLOW_HOME=$work/home
export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__DAGS_FOLDER=$work/dags AIRFLOW__CORE__UNIT_TEST_MODE=False
export AIRFLOW__LOGGING__LOGGING_LEVEL=INFO AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True
mkdir -p "$work/dags"
"$python" -m pytest "${tests[@]}" -p no:cacheprovider -q --durations=8 "$@"
