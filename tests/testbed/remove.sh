#!/usr/bin/env bash
# Removes the test bed of this checkout: its programs, and servers that failed tests left running.
set -euo pipefail
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bed=${SANKOFA_TESTBED:-$checkout/.testbed}

for folder in /dev/shm/sankofa-bed-* /tmp/sankofa-bed-*; do
    [ "$(cat "$folder/checkout" 2>/dev/null)" = "$checkout" ] || continue
    owner=${folder##*/sankofa-bed-}
    [ ! -e "/proc/${owner%%-*}" ] || { echo "testbed: left $folder: its tests are still running"; continue; }
    pid=$(head -n1 "$folder/data/postmaster.pid" 2>/dev/null || true)
    [ -z "$pid" ] || kill -QUIT "$pid" 2>/dev/null || true
    echo "testbed: removing $folder"
    rm -rf "$folder"
done
if [ -e "$bed" ] || [ -L "$bed" ]; then
    echo "testbed: removing $bed"
    rm -rf "$(readlink -f "$bed")" "$bed"
fi
