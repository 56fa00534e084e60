#!/usr/bin/env bash
# Measures speed and memory of Sankofa beside psql, in turn, on two local PostgreSQL 16 clusters.
#
# usage: bench/run.sh [--write] [CASE...]       bench/run.sh --help lists the cases
#
# Needs: what `make testbed` installs (done here if it is missing) and about 15 GB in $TMPDIR; `airflow` a Docker engine, so root.
# Sizes: BENCH_SMALL=1 runs everything small in a minute, to check the bench itself; BENCH_FULL=1
#        goes up to 50 million rows. BENCH_ROWS, BENCH_WIDE_ROWS, BENCH_TABLES, BENCH_ROUNDS set each.
# Cost:  about an hour on two cores; with BENCH_SMALL=1 under a minute, building apart.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SANKOFA_TESTBED=${SANKOFA_TESTBED:-$checkout/.testbed}

cd "$checkout"
[ -x "$SANKOFA_TESTBED/postgresql/16/bin/postgres" ] || tests/testbed/install.sh 16 >&2
tests/testbed/toolchain.sh run cargo build --locked --release >&2
exec python3 bench/bench.py "$@"
