#!/usr/bin/env bash
# Installs Airflow beside the test bed, from PyPI by uv: every package pinned in airflow/3.txt, 2.txt.
#
# usage: tests/testbed/airflow.sh [3|2|platform-3|platform-2]...          (default: 3)
#
# Where:  $SANKOFA_TESTBED, else .testbed in the checkout:
#           airflow-3, airflow-2   virtual environments: Airflow 3.3.2, 2.11.2, providers, pytest
#           airflow-platform-3, -2 what a whole platform needs beside them: PostgreSQL's driver, Celery; for PYTHONPATH
#           bin/uv                 uv itself, a wheel checked against its hash
# Needs:  Python 3.11 to 3.12 with pip; nothing is run as another user, root or not.
# Cost:   about 20 s (its bytecode included, which every start would else make again) and 0.5 GB each the first time, 0.1 s when it is there.
# New versions: write airflow/3.in, then `.testbed/bin/uv pip compile --python-version 3.11 3.in -o 3.txt`.
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
bed=${SANKOFA_TESTBED:-$checkout/.testbed}
uv_version=0.13.8
uv_hash=sha256:e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984

say() { printf 'airflow: %s\n' "$*"; }
die() { printf 'airflow: cannot %s\n' "$*" >&2; exit 1; }

# A Python that both versions of Airflow and today's providers run on.
find_python() {
    local python
    for python in python3.11 python3.12 python3; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || continue
        command -v "$python"
        return
    done
    die "find Python 3.11 or 3.12: install it (Debian 12: apt-get install python3) and run this again"
}

install_uv() {
    [ "$("$bed/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ] || return 0
    "$python" -m pip --version >/dev/null 2>&1 || die "go on without pip: install it (Debian: apt-get install python3-pip)"
    local work
    work=$(mktemp -d "$bed/work-airflow.XXXXXX")
    printf 'uv==%s --hash=%s\n' "$uv_version" "$uv_hash" >"$work/wanted"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 3.11 --platform manylinux_2_17_x86_64 --require-hashes --requirement "$work/wanted" --dest "$work"
    "$python" -m zipfile -e "$work"/uv-*.whl "$work/wheel"
    mkdir -p "$bed/bin"
    install -m 755 "$work"/wheel/uv-*.data/scripts/uv "$bed/bin/uv"
    rm -rf "$work"
}

# Beside an Airflow, not in it: 2 s and 30 MB.
install_platform() {
    local to=$bed/airflow-platform-$1 pins=$here/airflow/platform-$1.txt mark
    mark=$(cksum <"$pins")
    [ "$(cat "$to/.pins" 2>/dev/null)" != "$mark" ] || return 0
    say "what a platform of Airflow $1 needs, into $to: PyPI"
    rm -rf "$to"
    "$bed/bin/uv" pip install --quiet --compile-bytecode --no-deps --python "$bed/airflow-$1/bin/python" --target "$to" \
        --requirement "$pins"
    printf '%s\n' "$mark" >"$to/.pins"
}

# Whole or not at all: the mark is written last.
install_airflow() {
    local to=$bed/airflow-$1 pins=$here/airflow/$1.txt mark
    mark=$(cksum <"$pins")
    [ "$(cat "$to/.pins" 2>/dev/null)" != "$mark" ] || return 0
    say "Airflow $(sed -n 's/^apache-airflow==//p' "$pins") into $to: PyPI"
    rm -rf "$to"
    "$bed/bin/uv" venv --quiet --python "$python" "$to"
    "$bed/bin/uv" pip install --quiet --compile-bytecode --python "$to/bin/python" --requirement "$pins"
    printf '%s\n' "$mark" >"$to/.pins"
}

mkdir -p "$bed"
python=$(find_python)
exec 8>"$bed/.airflow-lock"
flock 8 # two checkouts' tests may start at once
rm -rf "$bed"/work-airflow.*
install_uv
[ $# -gt 0 ] || set -- 3
for version in "$@"; do
    [ -e "$here/airflow/$version.txt" ] || die "install Airflow $version: known are 3 and 2"
    case $version in platform-*) install_platform "${version#platform-}" ;; *) install_airflow "$version" ;; esac
done
