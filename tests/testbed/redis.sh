#!/usr/bin/env bash
# A Redis for the tests of Celery: Debian's, unpacked into folder $1/redis, not installed: no service starts.
#
# usage: tests/testbed/redis.sh FOLDER        then FOLDER/redis/run --port N
#
# Needs: apt's lists, as root or not. In CI a failure where it cannot be had. Cost: 2 s, 8 MB.
set -euo pipefail
to=$1/redis
packages=(redis-tools libjemalloc2 liblua5.1-0 liblzf1 lua-bitop lua-cjson)

[ "$(cat "$to/.version" 2>/dev/null)" != "${packages[*]}" ] || exit 0
mkdir -p "$1"
work=$(mktemp -d "$1/work-redis.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
echo "testbed: redis: unpacking Debian's ${packages[*]}"
fetch() { (cd "$work" && apt-get -qq download "${packages[@]}" >apt.log 2>&1); }
if ! fetch && ! { [ "$(id -u)" = 0 ] && apt-get -qq update >/dev/null && fetch; }; then
    tail -n 3 "$work/apt.log" >&2
    printf 'testbed: !!! NO REDIS: apt-get download failed; run apt-get update as root\n'
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi
for deb in "$work"/*.deb; do dpkg -x "$deb" "$work/root"; done
cat >"$work/root/run" <<'RUN'
#!/bin/sh
# Runs the unpacked server with the libraries beside it: one program, which looks at the name it is called by.
root=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu exec "$root/bin/redis-server" "$@"
RUN
mkdir "$work/root/bin"
ln -s ../usr/bin/redis-check-rdb "$work/root/bin/redis-server"
chmod 755 "$work/root/run"
printf '%s\n' "${packages[*]}" >"$work/root/.version"
chmod -R go+rX "$work/root"
rm -rf "$to"
mv -T "$work/root" "$to"
