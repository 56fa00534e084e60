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
version=3
case ${1:-} in 2 | 3) version=$1; shift ;; esac
. "$here/../airflow/prepare.sh" platform "$version" "$version" "platform-$version"

"$python" -m pytest "$here" -p no:cacheprovider -q -x -ra --durations=12 "$@"
